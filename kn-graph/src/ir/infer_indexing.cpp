// Gathers and scatters.
#include <ir/infer.h>
#include <ir/require.h>

namespace kn {
using namespace rules;

namespace {

/// Apart from `axis`, positions of the index tensor are positions of x.
void check_within(Graph& graph, const Shape& x, const Shape& indices, std::int64_t axis) {
    axis_in_range(axis, x.rank());
    rank_is("indices", indices, x.rank());
    for (std::size_t i = 0; i < x.rank(); ++i) {
        if (i == static_cast<std::size_t>(axis)) continue;
        at_least(graph, x[i], indices[i],
                 fmt::format("indices {} exceed x {} along axis {}", indices.to_string(),
                             x.to_string(), i));
    }
}

/// The length of the coordinates in the last axis of `indices`, which address x's axes from `first`
/// on.
std::size_t coordinate_length(const Shape& x, const Shape& indices, std::size_t first) {
    if (indices.rank() == 0) fail("indices have rank 0, the last axis must hold coordinates");
    const auto length = indices[indices.rank() - 1].constant();
    if (!length)
        fail("the last dim of indices {} must be known: it decides the rank of the result",
             indices.to_string());
    if (*length < 0 || static_cast<std::size_t>(*length) + first > x.rank())
        fail("coordinates of length {} do not fit x {} after {} batch axes", *length, x.to_string(),
             first);
    return static_cast<std::size_t>(*length);
}

void check_reduction(ScatterReduction reduction, DType dtype) {
    if (reduction == ScatterReduction::Add || reduction == ScatterReduction::Mul)
        dtype_is_number("x", dtype);
}

void check_updates(const Type& x, const Type& updates) {
    if (updates.dtype != x.dtype) fail("x is {}, updates are {}", describe(x), describe(updates));
}

}  // namespace

std::vector<Type> infer(const op::Gather& op, Graph& graph) {
    const Type& x = graph.type(op.x);
    const Type& indices = graph.type(op.indices);
    axis_in_range(op.axis, x.shape.rank());
    dtype_is_index("indices", indices.dtype);
    Shape shape = x.shape.slice(0, op.axis);
    for (const Dim& dim : indices.shape) shape.push_back(dim);
    for (std::size_t i = op.axis + 1; i < x.shape.rank(); ++i) shape.push_back(x.shape[i]);
    return one(x.dtype, std::move(shape));
}

std::vector<Type> infer(const op::GatherElements& op, Graph& graph) {
    const Type& x = graph.type(op.x);
    const Type& indices = graph.type(op.indices);
    dtype_is_index("indices", indices.dtype);
    check_within(graph, x.shape, indices.shape, op.axis);
    return one(x.dtype, indices.shape);
}

std::vector<Type> infer(const op::GatherNd& op, Graph& graph) {
    const Type& x = graph.type(op.x);
    const Type& indices = graph.type(op.indices);
    dtype_is_index("indices", indices.dtype);
    const auto batch = static_cast<std::size_t>(op.batch_dims);
    if (op.batch_dims < 0 || batch > x.shape.rank() || batch >= indices.shape.rank())
        fail("{} batch axes of x {} and indices {}", op.batch_dims, x.shape.to_string(),
             indices.shape.to_string());
    const std::size_t length = coordinate_length(x.shape, indices.shape, batch);
    Shape shape = same(graph, x.shape.slice(0, batch), indices.shape.slice(0, batch),
                       "batch axes of x and indices");
    for (std::size_t i = batch; i + 1 < indices.shape.rank(); ++i)
        shape.push_back(indices.shape[i]);
    for (std::size_t i = batch + length; i < x.shape.rank(); ++i) shape.push_back(x.shape[i]);
    return one(x.dtype, std::move(shape));
}

std::vector<Type> infer(const op::ScatterElements& op, Graph& graph) {
    const Type& x = graph.type(op.x);
    const Type& indices = graph.type(op.indices);
    const Type& updates = graph.type(op.updates);
    dtype_is_index("indices", indices.dtype);
    check_updates(x, updates);
    check_reduction(op.reduction, x.dtype);
    check_within(graph, x.shape, indices.shape, op.axis);
    (void)same(graph, indices.shape, updates.shape, "indices and updates");
    return one(x.dtype, x.shape);
}

std::vector<Type> infer(const op::ScatterNd& op, Graph& graph) {
    const Type& x = graph.type(op.x);
    const Type& indices = graph.type(op.indices);
    const Type& updates = graph.type(op.updates);
    dtype_is_index("indices", indices.dtype);
    check_updates(x, updates);
    check_reduction(op.reduction, x.dtype);
    const std::size_t length = coordinate_length(x.shape, indices.shape, 0);
    Shape expected = indices.shape.slice(0, indices.shape.rank() - 1);
    for (std::size_t i = length; i < x.shape.rank(); ++i) expected.push_back(x.shape[i]);
    (void)same(graph, expected, updates.shape, "what the indices address and the updates");
    return one(x.dtype, x.shape);
}

}  // namespace kn
