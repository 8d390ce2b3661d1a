// Views as strides, against indices computed one by one.
#include "planner/views.h"

#include "cuda_eval/plan/support.h"
#include "planner/placement.h"

namespace kn::test {

namespace {

using cuda::TensorRef;

TensorRef dense(const Ints& shape) {
    return {0, 0, DType::F32, shape, cuda::strides_for(shape, cuda::row_major(shape.size()))};
}

// Elements of a view of the numbers 0, 1, 2, ... in row-major order.
std::vector<std::int64_t> elements(const TensorRef& view) {
    std::vector<std::int64_t> out;
    const std::int64_t size = checked_size(view.shape);
    for (std::int64_t i = 0; i < size; i++) {
        std::int64_t at = view.offset, rest = i;
        for (std::size_t axis = view.shape.size(); axis-- > 0;) {
            at += rest % view.shape[axis] * view.strides[axis];
            rest /= view.shape[axis];
        }
        out.push_back(at);
    }
    return out;
}

// The same by the CPU executor.
std::vector<std::int64_t> by_cpu(const Graph& graph, const Ints& shape) {
    std::vector<float> numbers(static_cast<std::size_t>(checked_size(shape)));
    for (std::size_t i = 0; i < numbers.size(); i++) numbers[i] = static_cast<float>(i);
    const auto y =
        cpu::run(graph, {Tensor::from_span<float>(shape, std::span<const float>(numbers))})[0];
    std::vector<std::int64_t> out;
    for (const float v : y.data<float>()) out.push_back(static_cast<std::int64_t>(v));
    return out;
}

void expect_view(const Ints& shape, const std::function<Var(Var)>& build, bool possible = true) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of(shape));
    const Var y = build(x);
    graph.output("y", y);
    std::vector<Value> chain;
    for (Value v = y; !(v == x.value); v = *cuda::viewed(graph, v)) chain.push_back(v);
    std::optional<TensorRef> view = dense(shape);
    for (auto it = chain.rbegin(); it != chain.rend() && view; ++it)
        view = cuda::view_of(graph, *it, *view);
    ASSERT_EQ(view.has_value(), possible) << graph.to_string();
    if (view) {
        EXPECT_EQ(elements(*view), by_cpu(graph, shape)) << graph.to_string();
    }
}

TEST(Views, AreWhatTheCpuComputes) {
    expect_view({2, 3, 4}, [](Var x) { return permute(x, {2, 0, 1}); });
    expect_view({2, 3, 4}, [](Var x) { return reshape(permute(x, {0, 2, 1}), {2, 2, 2, 3}); });
    expect_view({1, 3, 1}, [](Var x) { return broadcast_to(x, {5, 3, 2}); });
    expect_view({6, 8}, [](Var x) { return slice(slice(x, 0, 1, 5), 1, 0, 8, 3); });
    expect_view({6, 8}, [](Var x) { return flip(slice(flip(x, 1), 1, 2, 7), 0); });
    expect_view({2, 9}, [](Var x) { return window(x, {1}, {3}, {2}, {2}); });
    expect_view({2, 9, 7}, [](Var x) {
        return window(flip(x, 2), {1, 2}, {3, 2}, {2, 1}, {2, 3});
    });
    expect_view({4, 6}, [](Var x) { return reshape(slice(x, 1, 0, 4), {2, 2, 2, 2}); });
    expect_view({2, 1, 6}, [](Var x) { return reshape(x, {1, 12, 1, 1}); });
    expect_view({1}, [](Var x) { return reshape(x, Shape{}); });
}

TEST(Views, ThatStridesCannotExpressAreNone) {
    expect_view(
        {2, 3, 4},
        [](Var x) {
            return reshape(permute(x, {0, 2, 1}), {2, 12});
        },
        false);
    expect_view(
        {4, 6}, [](Var x) { return reshape(slice(x, 1, 0, 4), {16}); }, false);
    expect_view(
        {3},
        [](Var x) {
            return reshape(broadcast_to(x, {2, 3}), {6});
        },
        false);
}

TEST(Views, AreUndone) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, {2, 3, 4, 5});
    const Var y = permute(reshape(x, {2, 12, 5}), {0, 2, 1});
    const auto inner = cuda::unview_of(graph, y, dense({2, 5, 12}));
    ASSERT_TRUE(inner);
    const auto place = cuda::unview_of(graph, *cuda::viewed(graph, y), *inner);
    ASSERT_TRUE(place);
    EXPECT_EQ(place->strides, (Ints{60, 4, 1, 12}));
}

}  // namespace

}  // namespace kn::test
