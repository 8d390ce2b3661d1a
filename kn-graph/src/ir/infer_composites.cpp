// Operations that an executor may have one kernel for.
#include <ir/infer.h>
#include <ir/require.h>

namespace kn {
using namespace rules;

namespace {

void optional_operand(Graph& graph, const std::optional<Value>& operand, const char* what,
                      DType dtype, const Shape& shape) {
    if (!operand) return;
    const Type& type = graph.type(*operand);
    dtype_is(what, type.dtype, dtype);
    (void)same(graph, type.shape, shape, fmt::format("{} and the shape it must have", what));
}

std::size_t gate_count(CellKind kind) {
    switch (kind) {
        case CellKind::Lstm: return 4;
        case CellKind::Gru: return 3;
        case CellKind::Rnn: return 1;
    }
    fail("unknown kind of cell");
}

}  // namespace

std::vector<Type> infer(const op::Softmax& op, Graph& graph) {
    const Type& x = graph.type(op.x);
    axis_in_range(op.axis, x.shape.rank());
    dtype_is_float("x", x.dtype);
    return one(x.dtype, x.shape);
}

std::vector<Type> infer(const op::Norm& op, Graph& graph) {
    const Type& x = graph.type(op.x);
    axes_sorted(op.axes, x.shape.rank());
    dtype_is_float("x", x.dtype);
    return one(x.dtype, x.shape);
}

std::vector<Type> infer(const op::Attention& op, Graph& graph) {
    const Type& q = graph.type(op.q);
    const Type& k = graph.type(op.k);
    const Type& v = graph.type(op.v);
    dtype_is_float("q", q.dtype);
    dtype_is("k", k.dtype, q.dtype);
    dtype_is("v", v.dtype, q.dtype);
    rank_is("q", q.shape, 4);
    rank_is("k", k.shape, 4);
    rank_is("v", v.shape, 4);
    const Dim batch = same(graph, same(graph, q.shape[0], k.shape[0], "batch of q and k"),
                           v.shape[0], "batch of q and v");
    const Dim groups = same(graph, k.shape[1], v.shape[1], "heads of k and v");
    const Dim tokens = same(graph, k.shape[2], v.shape[2], "length of k and v");
    (void)same(graph, q.shape[3], k.shape[3], "head size of q and k");
    const Dim& heads = q.shape[1];
    if (heads != groups) {
        const Dim rest = groups == Dim(0) ? heads : mod(heads, groups);
        if (rest.is_constant() && rest != Dim(0))
            fail("q has {} heads, not a multiple of the {} of k", heads.to_string(),
                 groups.to_string());
        if (rest != Dim(0)) graph.require_equal(rest, 0, "heads of q are a multiple of those of k");
    }
    if (op.mask) {
        const Type& mask = graph.type(*op.mask);
        if (mask.dtype != DType::Bool) dtype_is("the mask", mask.dtype, q.dtype);
        rank_is("the mask", mask.shape, 4);
        const std::string what = fmt::format("mask {}", mask.shape.to_string());
        fits(graph, mask.shape[0], batch, what + ", batch");
        fits(graph, mask.shape[1], heads, what + ", heads");
        fits(graph, mask.shape[2], q.shape[2], what + ", length of q");
        (void)same(graph, mask.shape[3], tokens, what + ", length of k");
    }
    return one(q.dtype, {batch, heads, q.shape[2], v.shape[3]});
}

std::vector<Type> infer(const op::Resize& op, Graph& graph) {
    const Type& x = graph.type(op.x);
    const std::size_t count = op.axes.size();
    axes_unique(op.axes, x.shape.rank());
    length_is("sizes", op.sizes.size(), count);
    length_is("scales", op.scales.size(), count);
    const bool crop = op.coordinates == ResizeCoordinates::TfCropAndResize;
    length_is("roi", op.roi.size(), crop ? 2 * count : 0);
    if (op.mode != ResizeMode::Nearest) dtype_is_float("an interpolated x", x.dtype);
    Shape shape = x.shape;
    for (std::size_t i = 0; i < count; ++i) {
        if (!(op.scales[i] >= 0)) fail("scale {} of axis {}", op.scales[i], op.axes[i]);
        at_least(graph, op.sizes[i], 0, "sizes must not be negative");
        Dim& dim = shape[op.axes[i]];
        at_least(graph, dim, min(op.sizes[i], 1),
                 fmt::format("axis {} is empty and cannot be resized", op.axes[i]));
        dim = op.sizes[i];
    }
    return one(x.dtype, std::move(shape));
}

std::vector<Type> infer(const op::GridSample& op, Graph& graph) {
    const Type& x = graph.type(op.x);
    const Type& grid = graph.type(op.grid);
    const std::size_t rank = x.shape.rank();
    dtype_is_float("x", x.dtype);
    dtype_is("the grid", grid.dtype, x.dtype);
    if (rank != 4 && rank != 5)
        fail("x {} has {} axes; 2 or 3 spatial axes after batch and channels are needed",
             x.shape.to_string(), rank);
    rank_is("the grid", grid.shape, rank);
    (void)same(graph, grid.shape[rank - 1], static_cast<std::int64_t>(rank - 2),
               "coordinates in the grid");
    Shape shape{same(graph, x.shape[0], grid.shape[0], "batch of x and grid"), x.shape[1]};
    for (std::size_t i = 1; i + 1 < rank; ++i) shape.push_back(grid.shape[i]);
    for (std::size_t i = 2; i < rank; ++i)
        at_least(graph, x.shape[i], 1, fmt::format("axis {} has nothing to sample", i));
    return one(x.dtype, std::move(shape));
}

std::vector<Type> infer(const op::Recurrent& op, Graph& graph) {
    const Type& x = graph.type(op.x);
    const Type& w = graph.type(op.w);
    const Type& r = graph.type(op.r);
    dtype_is_float("x", x.dtype);
    dtype_is("w", w.dtype, x.dtype);
    dtype_is("r", r.dtype, x.dtype);
    rank_is("x", x.shape, 3);
    rank_is("w", w.shape, 2);
    rank_is("r", r.shape, 2);
    const auto gates = static_cast<std::int64_t>(gate_count(op.kind));
    const Dim& steps = x.shape[0];
    const Dim& batch = x.shape[1];
    const Dim& hidden = r.shape[1];
    (void)same(graph, w.shape, {gates * hidden, x.shape[2]}, "w and the shape it must have");
    (void)same(graph, r.shape[0], gates * hidden, "rows of r and gates * hidden size");
    optional_operand(graph, op.bias, "bias", x.dtype, {2 * gates * hidden});
    optional_operand(graph, op.lengths, "lengths", DType::I32, {batch});
    optional_operand(graph, op.h0, "h0", x.dtype, {batch, hidden});
    optional_operand(graph, op.c0, "c0", x.dtype, {batch, hidden});
    optional_operand(graph, op.peephole, "peephole", x.dtype, {3 * hidden});
    if (op.kind != CellKind::Lstm && (op.c0 || op.peephole || op.input_forget))
        fail("cell state, peepholes and coupled gates belong to an LSTM");
    if (op.kind != CellKind::Gru && op.linear_before_reset)
        fail("linear_before_reset belongs to a GRU");
    const std::size_t functions = op.kind == CellKind::Lstm ? 3 : op.kind == CellKind::Gru ? 2 : 1;
    length_is("activations", op.activations.size(), functions);
    length_is("alphas", op.alphas.size(), functions);
    length_is("betas", op.betas.size(), functions);
    if (op.clip && !(*op.clip >= 0)) fail("clip {} is negative", *op.clip);
    std::vector<Type> results{{x.dtype, {steps, batch, hidden}}, {x.dtype, {batch, hidden}}};
    if (op.kind == CellKind::Lstm) results.push_back(results[1]);
    return results;
}

std::vector<Type> infer(const op::Dft& op, Graph& graph) {
    const Type& x = graph.type(op.x);
    const std::size_t rank = x.shape.rank();
    dtype_is_float("x", x.dtype);
    if (rank < 2)
        fail("x {} needs an axis besides that of real and imaginary parts", x.shape.to_string());
    axis_in_range(op.axis, rank - 1, "axis (the last holds real and imaginary parts)");
    (void)same(graph, x.shape[rank - 1], 2, "the last axis (real, imaginary)");
    at_least(graph, x.shape[op.axis], 1, "the transform needs at least one element");
    return one(x.dtype, x.shape);
}

}  // namespace kn
