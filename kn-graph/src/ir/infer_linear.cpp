// Matrix products and convolutions.
#include <ir/infer.h>
#include <ir/require.h>

namespace kn {
using namespace rules;

namespace {

/// What Conv and ConvTranspose share; gives the number of spatial axes.
template <class Op>
std::size_t check_conv(const Op& op, Graph& graph) {
    const Type& x = graph.type(op.x);
    const Type& w = graph.type(op.w);
    dtype_is_number("x", x.dtype);
    if (x.dtype != w.dtype) fail("x is {}, w is {}", describe(x), describe(w));
    if (x.shape.rank() < 3 || x.shape.rank() > 5)
        fail("x {} has {} axes; 1 to 3 spatial axes after batch and channels are needed",
             x.shape.to_string(), x.shape.rank());
    rank_is("w", w.shape, x.shape.rank());
    const std::size_t spatial = x.shape.rank() - 2;
    length_is("strides", op.strides.size(), spatial);
    length_is("dilations", op.dilations.size(), spatial);
    length_is("pads_before", op.pads_before.size(), spatial);
    length_is("pads_after", op.pads_after.size(), spatial);
    all_positive("strides", op.strides);
    all_positive("dilations", op.dilations);
    all_positive("groups", {op.groups});
    for (std::size_t i = 0; i < spatial; ++i)
        at_least(graph, w.shape[2 + i], 1, "a kernel's size must be at least 1");
    return spatial;
}

void check_divisible(Graph& graph, const Dim& dim, std::int64_t divisor, const char* what) {
    const Dim rest = mod(dim, divisor);
    if (rest.is_constant() && rest != Dim(0))
        fail("{} {} do not divide into {} groups", dim.to_string(), what, divisor);
    if (rest != Dim(0))
        graph.require_equal(rest, 0, fmt::format("{} divide into {} groups", what, divisor));
}

}  // namespace

std::vector<Type> infer(const op::MatMul& op, Graph& graph) {
    const Type& a = graph.type(op.a);
    const Type& b = graph.type(op.b);
    dtype_is_number("a", a.dtype);
    if (a.dtype != b.dtype) fail("a is {}, b is {}", describe(a), describe(b));
    const std::size_t rank = a.shape.rank();
    if (rank < 2) fail("a {} is no matrix", a.shape.to_string());
    rank_is("b", b.shape, rank);
    Shape shape = same(graph, a.shape.slice(0, rank - 2), b.shape.slice(0, rank - 2), [&] {
        return fmt::format("leading dims of a {} and b {}", a.shape.to_string(),
                           b.shape.to_string());
    });
    (void)same(graph, a.shape[rank - 1], b.shape[rank - 2], [&] {
        return fmt::format("columns of a {} and rows of b {}", a.shape.to_string(),
                           b.shape.to_string());
    });
    shape.push_back(a.shape[rank - 2]);
    shape.push_back(b.shape[rank - 1]);
    return one(a.dtype, std::move(shape));
}

std::vector<Type> infer(const op::Conv& op, Graph& graph) {
    const std::size_t spatial = check_conv(op, graph);
    const Type& x = graph.type(op.x);
    const Type& w = graph.type(op.w);
    const Dim channels = w.shape[1] * op.groups;
    if (channels.is_constant() && x.shape[1].is_constant() && channels != x.shape[1])
        fail("w has {} input channels, x gives {} / groups {}", w.shape[1].to_string(),
             x.shape[1].to_string(), op.groups);
    (void)same(graph, x.shape[1], channels, "channels of x and w");
    check_divisible(graph, w.shape[0], op.groups, "output channels");
    Shape shape{x.shape[0], w.shape[0]};
    for (std::size_t i = 0; i < spatial; ++i) {
        at_least(graph, op.pads_before[i], 0, "pads must not be negative");
        at_least(graph, op.pads_after[i], 0, "pads must not be negative");
        const Dim padded = x.shape[2 + i] + op.pads_before[i] + op.pads_after[i];
        const Dim extent = (w.shape[2 + i] - 1) * op.dilations[i] + 1;
        const Dim size = floor_div(padded - extent, op.strides[i]) + 1;
        if (size.is_constant() && size.value() < 0)
            fail("a kernel of extent {} does not fit into spatial axis {} of padded size {}",
                 extent.to_string(), i, padded.to_string());
        at_least(graph, size, 0,
                 [&] { return fmt::format("the kernel fits into spatial axis {}", i); });
        shape.push_back(size);
    }
    return one(x.dtype, std::move(shape));
}

std::vector<Type> infer(const op::ConvTranspose& op, Graph& graph) {
    const std::size_t spatial = check_conv(op, graph);
    const Type& x = graph.type(op.x);
    const Type& w = graph.type(op.w);
    length_is("output_padding", op.output_padding.size(), spatial);
    (void)same(graph, x.shape[1], w.shape[0], "channels of x and w");
    check_divisible(graph, x.shape[1], op.groups, "input channels");
    Shape shape{x.shape[0], w.shape[1] * op.groups};
    for (std::size_t i = 0; i < spatial; ++i) {
        at_least(graph, op.output_padding[i], 0, "output padding must not be negative");
        const Dim full =
            (x.shape[2 + i] - 1) * op.strides[i] + (w.shape[2 + i] - 1) * op.dilations[i] + 1;
        const Dim size = full - op.pads_before[i] - op.pads_after[i] + op.output_padding[i];
        at_least(graph, size, 0, [&] {
            return fmt::format("the pads of spatial axis {} are larger than its output", i);
        });
        shape.push_back(size);
    }
    return one(x.dtype, std::move(shape));
}

}  // namespace kn
