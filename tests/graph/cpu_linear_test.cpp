// Products, convolutions and attention against sums written out in double.
#include <fmt/core.h>

#include "cpu_support.h"

namespace kn::test {
namespace {

double dot(std::int64_t n, const std::function<double(std::int64_t)>& term) {
    double sum = 0;
    for (std::int64_t k = 0; k < n; ++k) sum += term(k);
    return sum;
}

Tensor matmul_reference(const Tensor& a, const Tensor& b) {
    Ints shape = a.shape();
    shape.back() = b.shape().back();
    return make(a.dtype(), shape, [&](const Ints& i) {
        Ints x = i, y = i;
        return dot(a.shape().back(), [&](std::int64_t k) {
            x.back() = y[y.size() - 2] = k;
            return at(a, x) * at(b, y);
        });
    });
}

TEST(CpuMatMul, AllFloatsWithAllStrides) {
    struct Sizes {
        Ints batch;
        std::int64_t m, n, k;
    };
    for (const Sizes& s : {Sizes{{}, 5, 7, 9},
                           {{2, 3}, 4, 1, 6},
                           {{2}, 1, 33, 70},
                           {{3}, 65, 130, 40},
                           {{}, 1, 1, 5},
                           {{2}, 3, 4, 1}})
        for (DType dtype : all_floats)
            for (Strides strides : all_strides) {
                SCOPED_TRACE(fmt::format("{} {}x{}x{} strides {}", name_of(dtype), s.m, s.n, s.k,
                                         static_cast<int>(strides)));
                Ints left = s.batch, right = s.batch;
                left.insert(left.end(), {s.m, s.k});
                right.insert(right.end(), {s.k, s.n});
                const Tensor a = random(dtype, left, 1), b = random(dtype, right, 2),
                             expected = matmul_reference(a, b);
                Case c;
                const Tensor y = c.run(matmul(c.operand(a, strides), c.operand(b, strides)));
                expect_each(y, expected.shape(), tolerance(dtype),
                            [&](const Ints& i) { return at(expected, i); });
            }
}

TEST(CpuMatMul, OneMatrixForAllBatches) {
    const Tensor a = random(DType::F32, {4, 3, 10, 20}, 1), b = random(DType::F32, {20, 30}, 2);
    for (Strides strides : all_strides) {
        Case c;
        const Tensor y = c.run(matmul(c.operand(a, strides), c.operand(b, Strides::Transposed)));
        expect_each(y, {4, 3, 10, 30}, tolerance(DType::F32), [&](const Ints& i) {
            return dot(20, [&](std::int64_t k) {
                return at(a, {i[0], i[1], i[2], k}) * at(b, {k, i[3]});
            });
        });
    }
}

TEST(CpuMatMul, IntegersWrap) {
    for (DType dtype : {DType::I8, DType::U8, DType::I32, DType::I64, DType::U64}) {
        SCOPED_TRACE(name_of(dtype));
        const Tensor a = random(dtype, {2, 5, 40}, 1, is_signed_int(dtype) ? -100 : 0, 100),
                     b = random(dtype, {2, 40, 6}, 2, 0, 100);
        Case c;
        const Tensor y = c.run(matmul(c.operand(a, Strides::Flipped), c.input(b)));
        const double range = std::exp2(8.0 * static_cast<double>(size_of(dtype))),
                     low = is_signed_int(dtype) ? -range / 2 : 0;
        expect_each(y, {2, 5, 6}, 0, [&](const Ints& i) {
            const double sum = dot(40, [&](std::int64_t k) {
                return at(a, {i[0], i[1], k}) * at(b, {i[0], k, i[2]});
            });
            return sum - range * std::floor((sum - low) / range);
        });
    }
}

TEST(CpuMatMul, EmptySums) {
    Case c;
    const Tensor y =
        c.run(matmul(c.input(Tensor(DType::F32, {3, 0})), c.input(Tensor(DType::F32, {0, 4}))));
    expect_each(y, {3, 4}, 0, [](const Ints&) { return 0.0; });
}

/// Everything about a convolution but its data; spatial entries one per axis.
struct Geometry {
    const char* name;
    std::int64_t batch, channels, filters, groups;
    Ints in, kernel, strides, dilations, before, after;
};

// clang-format off
const Geometry geometries[] = {
    {"pointwise", 2, 5, 7, 1, {6, 5}, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}},
    {"pointwise, 2 groups", 1, 6, 4, 2, {6, 5}, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}},
    {"pointwise, stride 2", 1, 5, 7, 1, {7, 6}, {1, 1}, {2, 2}, {1, 1}, {0, 0}, {0, 0}},
    {"3x3", 2, 3, 4, 1, {9, 8}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
    {"3x3, large", 1, 2, 2, 1, {40, 51}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
    {"3x3, in panels", 4, 5, 3, 1, {13, 14}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
    {"7x7 stride 2", 1, 3, 4, 1, {17, 16}, {7, 7}, {2, 2}, {1, 1}, {3, 3}, {3, 3}},
    {"uneven pads, dilation", 2, 4, 6, 2, {11, 10}, {3, 2}, {2, 1}, {2, 3}, {0, 2}, {1, 3}},
    {"pads beyond the kernel", 1, 2, 3, 1, {3, 3}, {2, 2}, {1, 1}, {1, 1}, {4, 3}, {3, 5}},
    {"depthwise", 2, 6, 6, 6, {9, 13}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
    {"depthwise, stride 2, two each", 1, 3, 6, 3, {12, 11}, {5, 3}, {2, 2}, {1, 1}, {2, 1}, {1, 1}},
    {"depthwise, stride 3", 1, 3, 3, 3, {12, 17}, {3, 4}, {3, 3}, {1, 2}, {2, 1}, {1, 1}},
    {"1-D", 2, 4, 5, 1, {30}, {5}, {2}, {1}, {2}, {2}},
    {"1-D depthwise", 1, 4, 4, 4, {30}, {4}, {1}, {2}, {6}, {0}},
    {"3-D", 1, 2, 3, 1, {5, 6, 7}, {3, 2, 3}, {1, 2, 1}, {1, 1, 2}, {1, 0, 1}, {1, 1, 2}},
    {"3-D depthwise", 1, 4, 4, 4, {5, 6, 7}, {3, 2, 3}, {2, 1, 1}, {1, 1, 1}, {1, 0, 1}, {1, 1, 1}},
};
// clang-format on

Ints joined(Ints a, const Ints& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

std::vector<Dim> pads(const Geometry& g) {
    const Ints both = joined(g.before, g.after);
    return {both.begin(), both.end()};
}

TEST(CpuConv, AllGeometries) {
    for (const Geometry& g : geometries)
        for (DType dtype : all_floats) {
            SCOPED_TRACE(fmt::format("{} {}", g.name, name_of(dtype)));
            const Tensor x = random(dtype, joined({g.batch, g.channels}, g.in), 1);
            const Tensor w = random(dtype, joined({g.filters, g.channels / g.groups}, g.kernel), 2);
            Case c;
            const Tensor y =
                c.run(conv(c.operand(x, Strides::Transposed), c.operand(w, Strides::Flipped), {},
                           {.strides = g.strides,
                            .dilations = g.dilations,
                            .pads = pads(g),
                            .groups = g.groups}));
            Ints shape = {g.batch, g.filters};
            for (std::size_t a = 0; a < g.in.size(); ++a)
                shape.push_back(
                    (g.in[a] + g.before[a] + g.after[a] - (g.kernel[a] - 1) * g.dilations[a] - 1) /
                        g.strides[a] +
                    1);
            expect_each(y, shape, tolerance(dtype), [&](const Ints& o) {
                double sum = 0;
                each_index(joined({g.channels / g.groups}, g.kernel), [&](const Ints& k) {
                    Ints from = {o[0],
                                 o[1] / (g.filters / g.groups) * (g.channels / g.groups) + k[0]};
                    for (std::size_t a = 0; a < g.in.size(); ++a) {
                        from.push_back(o[2 + a] * g.strides[a] + k[1 + a] * g.dilations[a] -
                                       g.before[a]);
                        if (from.back() < 0 || from.back() >= g.in[a]) return;
                    }
                    sum += at(x, from) * at(w, joined({o[1]}, k));
                });
                return sum;
            });
        }
}

TEST(CpuConvTranspose, AllGeometries) {
    for (const Geometry& g : geometries)
        for (DType dtype : {DType::F32, DType::F64, DType::F16}) {
            SCOPED_TRACE(fmt::format("{} {}", g.name, name_of(dtype)));
            const Tensor x = random(dtype, joined({g.batch, g.channels}, g.in), 1);
            const Tensor w = random(dtype, joined({g.channels, g.filters / g.groups}, g.kernel), 2);
            Ints shape = {g.batch, g.filters};
            std::vector<Dim> extra;
            for (std::size_t a = 0; a < g.in.size(); ++a) {
                extra.emplace_back(g.strides[a] - 1);
                shape.push_back((g.in[a] - 1) * g.strides[a] + (g.kernel[a] - 1) * g.dilations[a] +
                                1 - g.before[a] - g.after[a] + g.strides[a] - 1);
            }
            if (*std::min_element(shape.begin(), shape.end()) < 0) continue;
            Case c;
            const Tensor y = c.run(conv_transpose(c.operand(x, Strides::Sliced), c.input(w), {},
                                                  {.strides = g.strides,
                                                   .dilations = g.dilations,
                                                   .pads = pads(g),
                                                   .groups = g.groups,
                                                   .output_padding = extra}));
            Tensor sums = Tensor::zeros(DType::F64, shape);
            auto sum = sums.mutable_data<double>();
            each_index(x.shape(), [&](const Ints& i) {
                each_index(joined({g.filters / g.groups}, g.kernel), [&](const Ints& k) {
                    Ints to = {i[0],
                               i[1] / (g.channels / g.groups) * (g.filters / g.groups) + k[0]};
                    for (std::size_t a = 0; a < g.in.size(); ++a) {
                        to.push_back(i[2 + a] * g.strides[a] + k[1 + a] * g.dilations[a] -
                                     g.before[a]);
                        if (to.back() < 0 || to.back() >= shape[2 + a]) return;
                    }
                    sum[static_cast<std::size_t>(flat(shape, to))] +=
                        at(x, i) * at(w, joined({i[1]}, k));
                });
            });
            expect_each(y, shape, tolerance(dtype), [&](const Ints& o) { return at(sums, o); });
        }
}

struct AttentionCase {
    std::int64_t b, h, g, s, t, d, e;
    CausalMask causal;
    Ints mask;  // empty: none
    DType mask_dtype;
};

TEST(CpuAttention, MasksHeadsAndCausality) {
    const AttentionCase cases[] = {
        {2, 4, 4, 7, 7, 8, 8, CausalMask::None, {}, DType::F32},
        {1, 4, 2, 5, 9, 8, 3, CausalMask::None, {1, 1, 5, 9}, DType::F32},
        {1, 4, 1, 40, 50, 8, 8, CausalMask::TopLeft, {}, DType::F32},
        {2, 2, 2, 6, 9, 4, 4, CausalMask::BottomRight, {2, 1, 1, 9}, DType::Bool},
        {1, 2, 2, 9, 6, 4, 4, CausalMask::BottomRight, {}, DType::F32},
        {1, 3, 3, 1, 33, 8, 8, CausalMask::None, {1, 3, 1, 33}, DType::Bool},
    };
    for (const AttentionCase& s : cases)
        for (DType dtype : all_floats)
            for (Strides strides : all_strides) {
                SCOPED_TRACE(fmt::format("case {} {} strides {}", &s - cases, name_of(dtype),
                                         static_cast<int>(strides)));
                const Tensor q = random(dtype, {s.b, s.h, s.s, s.d}, 1),
                             k = random(dtype, {s.b, s.g, s.t, s.d}, 2),
                             v = random(dtype, {s.b, s.g, s.t, s.e}, 3);
                Case c;
                std::optional<Tensor> mask;
                std::optional<Var> mask_var;
                if (!s.mask.empty()) {
                    mask = s.mask_dtype == DType::Bool ? random(DType::Bool, s.mask, 4, 0.2, 2)
                                                       : random(dtype, s.mask, 4);
                    mask_var = c.operand(*mask, strides);
                }
                const Tensor y = c.run(attention(c.operand(q, strides), c.operand(k, strides),
                                                 c.operand(v, strides), mask_var, 0.3, s.causal));
                const Tensor weights = make(DType::F64, {s.b, s.h, s.s, s.t}, [&](const Ints& i) {
                    const std::int64_t t = i[3];
                    const bool later =
                        t > i[2] + (s.causal == CausalMask::BottomRight ? s.t - s.s : 0);
                    if (s.causal != CausalMask::None && later) return 0.0;
                    double x = 0.3 * dot(s.d, [&](std::int64_t n) {
                                   return at(q, {i[0], i[1], i[2], n}) *
                                          at(k, {i[0], i[1] / (s.h / s.g), t, n});
                               });
                    if (mask) {
                        const double m =
                            at(*mask, {s.mask[0] == 1 ? 0 : i[0], s.mask[1] == 1 ? 0 : i[1],
                                       s.mask[2] == 1 ? 0 : i[2], t});
                        x += s.mask_dtype == DType::Bool ? (m != 0 ? 0.0 : -INFINITY) : m;
                    }
                    return std::exp(x);
                });
                expect_each(y, {s.b, s.h, s.s, s.e}, tolerance(dtype), [&](const Ints& i) {
                    const auto weight = [&](std::int64_t t) {
                        return at(weights, {i[0], i[1], i[2], t});
                    };
                    return dot(s.t,
                               [&](std::int64_t t) {
                                   return weight(t) * at(v, {i[0], i[1] / (s.h / s.g), t, i[3]});
                               }) /
                           dot(s.t, weight);
                });
            }
}

}  // namespace
}  // namespace kn::test
