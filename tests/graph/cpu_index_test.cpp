// Gathers, scatters, running sums and sorting on the CPU, against loops over multi-indices.
#include <gmock/gmock.h>

#include <numeric>

#include "cpu_reference.h"

namespace kn {
namespace {

using namespace reference;
using testing::ElementsAre;
using testing::HasSubstr;

std::int64_t flat(const Ints& index, const Ints& shape) {
    std::int64_t at = 0;
    for (std::size_t a = 0; a < shape.size(); ++a) at = at * shape[a] + index[a];
    return at;
}

/// Calls f for every index of the shape in row-major order.
template <class F>
void each_index(const Ints& shape, F&& f) {
    std::int64_t count = 1;
    for (const std::int64_t dim : shape) count *= dim;
    for (std::int64_t i = 0; i < count; ++i) {
        Ints index(shape.size());
        for (std::int64_t a = static_cast<std::int64_t>(shape.size()) - 1, rest = i; a >= 0; --a) {
            index[a] = rest % shape[a];
            rest /= shape[a];
        }
        f(index);
    }
}

TEST(CpuIndex, GatherTakesSlices) {
    const Tensor x = uniform({3, 5, 4}, 1);
    const Tensor index = ints({2, 2}, {4, -5, 0, -1});
    for (const std::int64_t axis : {0, 1, 2}) {
        const Tensor use = axis == 1 ? index : ints({2, 2}, {2, -3, 0, -1});
        const auto y = run_op({x, use}, [&](auto& v) { return op::Gather{v[0], v[1], axis}; })[0];
        std::vector<double> expected;
        each_index(y.shape(), [&](const Ints& at) {
            std::int64_t position = use.int_at(flat({at[axis], at[axis + 1]}, use.shape()));
            if (position < 0) position += x.shape()[axis];
            Ints from(at.begin(), at.begin() + axis);
            from.push_back(position);
            from.insert(from.end(), at.begin() + axis + 2, at.end());
            expected.push_back(x.at(flat(from, x.shape())));
        });
        EXPECT_EQ(doubles(y), expected) << "axis " << axis;
    }
}

TEST(CpuIndex, IndicesOutOfRangeAreNamed) {
    const Tensor x = uniform({3, 4}, 1), one = uniform({1}, 1);
    const auto message = [](const std::vector<Tensor>& in, auto make) {
        return message_of([&] { run_op(in, make); });
    };
    EXPECT_THAT(message({x, ints({1}, {4})},
                        [](auto& v) {
                            return op::Gather{v[0], v[1], 1};
                        }),
                HasSubstr("index 4 is out of range for axis 1 of size 4"));
    EXPECT_THAT(message({x, ints({1}, {-4})},
                        [](auto& v) {
                            return op::Gather{v[0], v[1], 0};
                        }),
                HasSubstr("index -4 is out of range for axis 0 of size 3"));
    EXPECT_THAT(message({x, ints({1, 1}, {3})},
                        [](auto& v) {
                            return op::GatherElements{v[0], v[1], 0};
                        }),
                HasSubstr("index 3"));
    EXPECT_THAT(message({x, ints({1, 2}, {2, 4})},
                        [](auto& v) {
                            return op::GatherNd{v[0], v[1], 0};
                        }),
                HasSubstr("index 4 is out of range for axis 1 of size 4"));
    EXPECT_THAT(message({x, ints({1, 2}, {-4, 0}), one},
                        [](auto& v) {
                            return op::ScatterNd{v[0], v[1], v[2], ScatterReduction::None};
                        }),
                HasSubstr("index -4"));
}

TEST(CpuIndex, GatherElementsOfAPermutedView) {
    const Tensor x = uniform({4, 3, 5}, 2);
    const Tensor index = ints({2, 3, 3}, {0, 1, 2, 3, -1, -4, 0, 0, 0, 1, 1, 1, 3, 3, 3, 2, 1, 0});
    Graph g;
    const Var a = g.input("x", DType::F32, {4, 3, 5}), i = g.input("i", DType::I64, {2, 3, 3});
    g.output("y", gather_elements(permute(a, {2, 1, 0}), i, 2));  // of shape [5, 3, 4]
    const Tensor y = cpu::run(g, {x, index})[0];
    std::vector<double> expected;
    each_index({2, 3, 3}, [&](const Ints& at) {
        const std::int64_t k = (index.int_at(flat(at, {2, 3, 3})) + 4) % 4;
        expected.push_back(x.at(flat({k, at[1], at[0]}, x.shape())));
    });
    EXPECT_EQ(doubles(y), expected);
}

TEST(CpuIndex, GatherNdWithBatchAxes) {
    const Tensor x = uniform({2, 3, 4, 5}, 3);
    const Tensor index = ints({2, 2, 2}, {0, 3, -1, 2, 1, 1, 2, -4});
    const Tensor y = run_op({x, index}, [](auto& v) { return op::GatherNd{v[0], v[1], 1}; })[0];
    EXPECT_THAT(y.shape(), ElementsAre(2, 2, 5));
    std::vector<double> expected;
    each_index(y.shape(), [&](const Ints& at) {
        const std::int64_t i = (index.int_at(flat({at[0], at[1], 0}, {2, 2, 2})) + 3) % 3;
        const std::int64_t j = (index.int_at(flat({at[0], at[1], 1}, {2, 2, 2})) + 4) % 4;
        expected.push_back(x.at(flat({at[0], i, j, at[2]}, x.shape())));
    });
    EXPECT_EQ(doubles(y), expected);
}

TEST(CpuIndex, ScatterElementsCombinesInOrder) {
    const Tensor x = floats({2, 3}, {1, 2, 3, 4, 5, 6});
    const Tensor index = ints({2, 2}, {0, 0, 2, -1});
    const Tensor updates = floats({2, 2}, {10, 20, 0.5F, 7});
    const auto scatter = [&](ScatterReduction reduction) {
        return doubles(run_op({x, index, updates}, [&](auto& v) {
            return op::ScatterElements{v[0], v[1], v[2], 1, reduction};
        })[0]);
    };
    EXPECT_THAT(scatter(ScatterReduction::None), ElementsAre(20, 2, 3, 4, 5, 7));
    EXPECT_THAT(scatter(ScatterReduction::Add), ElementsAre(31, 2, 3, 4, 5, 13.5));
    EXPECT_THAT(scatter(ScatterReduction::Mul), ElementsAre(200, 2, 3, 4, 5, 21));
    EXPECT_THAT(scatter(ScatterReduction::Max), ElementsAre(20, 2, 3, 4, 5, 7));
    EXPECT_THAT(scatter(ScatterReduction::Min), ElementsAre(1, 2, 3, 4, 5, 0.5));
}

TEST(CpuIndex, ScatterNdWritesSlicesAndKeepsItsInput) {
    Graph g;
    const Var x = g.input("x", DType::I32, {3, 2}), i = g.input("i", DType::I64, {2, 1}),
              u = g.input("u", DType::I32, {2, 2});
    const Var doubled = x + x;
    g.output("y", g.var(g.add(op::ScatterNd{doubled, i, u, ScatterReduction::Add})));
    g.output("doubled", doubled);
    const auto y = cpu::run(
        g, {Tensor::from_span<std::int32_t>({3, 2}, std::vector<std::int32_t>{1, 2, 3, 4, 5, 6}),
            ints({2, 1}, {2, 2}),
            Tensor::from_span<std::int32_t>({2, 2}, std::vector<std::int32_t>{1, 1, 10, 20})});
    EXPECT_THAT(doubles(y[0]), ElementsAre(2, 4, 6, 8, 21, 33));
    EXPECT_THAT(doubles(y[1]), ElementsAre(2, 4, 6, 8, 10, 12));
}

TEST(CpuIndex, CumulativeSumsAndProducts) {
    const Tensor x = uniform({2, 4, 3}, 5, 0.5, 1.5, DType::F64);
    for (const std::int64_t axis : {0, 1, 2})
        for (const bool exclusive : {false, true})
            for (const bool reverse : {false, true})
                for (const ReduceOp kind : {ReduceOp::Sum, ReduceOp::Prod}) {
                    const Tensor y = run_op({x}, [&](auto& v) {
                        return op::Cumulative{kind, v[0], axis, exclusive, reverse};
                    })[0];
                    std::vector<double> expected;
                    each_index(x.shape(), [&](const Ints& at) {
                        double value = kind == ReduceOp::Sum ? 0 : 1;
                        for (std::int64_t k = 0; k < x.shape()[axis]; ++k) {
                            const bool before = reverse ? k > at[axis] : k < at[axis];
                            if (!before && !(k == at[axis] && !exclusive)) continue;
                            Ints from = at;
                            from[axis] = k;
                            const double element = x.at(flat(from, x.shape()));
                            value = kind == ReduceOp::Sum ? value + element : value * element;
                        }
                        expected.push_back(value);
                    });
                    SCOPED_TRACE(testing::Message()
                                 << "axis " << axis << " exclusive " << exclusive << " reverse "
                                 << reverse << " kind " << static_cast<int>(kind));
                    expect_close(y, expected, 1e-14);
                }
}

TEST(CpuIndex, CumulativeIntegersWrap) {
    const Tensor x = Tensor::from_span<std::uint8_t>({3}, std::vector<std::uint8_t>{200, 100, 3});
    EXPECT_THAT(doubles(run_op({x},
                               [](auto& v) {
                                   return op::Cumulative{ReduceOp::Sum, v[0], 0, false, false};
                               })[0]),
                ElementsAre(200, 44, 47));
}

TEST(CpuIndex, TopKKeepsTheOrderOfEquals) {
    const Tensor x = floats({2, 5}, {3, 1, 3, 2, 1, NAN, 0, 5, -INFINITY, 5});
    const auto largest = run_op({x}, [](auto& v) { return op::TopK{v[0], 1, 3, true}; });
    EXPECT_THAT(largest[1].data<std::int64_t>(), ElementsAre(0, 2, 3, 0, 2, 4));
    expect_close(largest[0], {3, 3, 2, NAN, 5, 5}, 0);
    const auto smallest = run_op({x}, [](auto& v) { return op::TopK{v[0], 1, 3, false}; });
    EXPECT_THAT(smallest[1].data<std::int64_t>(), ElementsAre(1, 4, 3, 3, 1, 2));
}

TEST(CpuIndex, TopKAlongAMiddleAxis) {
    const Tensor x = uniform({3, 40, 2}, 7);
    const auto y = run_op({x}, [](auto& v) { return op::TopK{v[0], 1, 7, true}; });
    each_index({3, 2}, [&](const Ints& lane) {
        Ints order(40);
        std::iota(order.begin(), order.end(), 0);
        const auto value = [&](std::int64_t k) {
            return x.at(flat({lane[0], k, lane[1]}, x.shape()));
        };
        std::stable_sort(order.begin(), order.end(),
                         [&](auto a, auto b) { return value(a) > value(b); });
        for (std::int64_t k = 0; k < 7; ++k) {
            EXPECT_EQ(y[1].int_at(flat({lane[0], k, lane[1]}, {3, 7, 2})), order[k]);
            EXPECT_EQ(y[0].at(flat({lane[0], k, lane[1]}, {3, 7, 2})), value(order[k]));
        }
    });
}

TEST(CpuIndex, EmptyOperands) {
    const Tensor x = uniform({0, 3}, 1);
    const Tensor none = ints({0}, {});
    EXPECT_THAT(run_op({x, none},
                       [](auto& v) {
                           return op::Gather{v[0], v[1], 0};
                       })[0]
                    .shape(),
                ElementsAre(0, 3));
    EXPECT_THAT(run_op({x},
                       [](auto& v) {
                           return op::TopK{v[0], 1, 0, true};
                       })[0]
                    .shape(),
                ElementsAre(0, 0));
    EXPECT_THAT(run_op({x},
                       [](auto& v) {
                           return op::Cumulative{ReduceOp::Sum, v[0], 0, false, false};
                       })[0]
                    .shape(),
                ElementsAre(0, 3));
    EXPECT_THAT(run_op({x},
                       [](auto& v) {
                           return op::NonZero{v[0], "n"};
                       })[0]
                    .shape(),
                ElementsAre(2, 0));
}

}  // namespace
}  // namespace kn
