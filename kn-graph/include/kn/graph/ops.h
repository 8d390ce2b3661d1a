// The operations of the IR: one struct each, whose fields are named once; inputs, hashing, text and
// DOT dumps derive from that.
//
//     kn::Value y = graph.add(kn::op::Permute{x, {0, 2, 1}});   // mostly by functions of builder.h
//
// Rules for all of them:
// - Values have a dtype and a shape, never strides or memory. Operands do not broadcast or convert
//   by themselves: Broadcast and Cast say so.
// - f16 and bf16: arithmetic and accumulation in f32, each operation's result rounded once.
//   Integers wrap.
// - NaN and infinities follow IEEE 754 as the scalar table says.
// - Axes are 0..rank-1. Attributes that are sizes or positions are Dims, so that they may depend on
//   symbols.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <kn/graph/attributes.h>
#include <kn/graph/detail/fields.h>
#include <kn/graph/scalar_ops.h>
#include <kn/graph/value.h>

namespace kn {

class Graph;

namespace op {

// ---- leaves ----

/// A named input of the graph.
struct Input {
    std::string name;
    DType dtype;
    Shape shape;
    KN_FIELDS(name, dtype, shape)
    bool operator==(const Input&) const = default;
};

struct Constant {
    std::shared_ptr<const ConstantData> data;
    KN_FIELDS(data)
    bool operator==(const Constant& other) const;
};

/// i64 tensor of `shape` whose elements are these Dims, row-major.
struct ShapeValue {
    std::vector<Dim> dims;
    Ints shape;
    KN_FIELDS(dims, shape)
    bool operator==(const ShapeValue&) const = default;
};

/// 0, 1, ... length-1 as an i64 vector.
struct Iota {
    Dim length;
    KN_FIELDS(length)
    bool operator==(const Iota&) const = default;
};

// ---- sizes that the data decide ----

/// Gives `x` (any integer dtype, static shape) unchanged and binds symbols[i] to its element i when
/// it is computed; an element below `minimum` is an error. Values whose shape uses such a symbol
/// depend on this operation.
struct ReadDims {
    Value x;
    std::vector<std::string> symbols;
    std::int64_t minimum = 0;
    KN_FIELDS(x, symbols, minimum)
    bool operator==(const ReadDims&) const = default;
};

/// Coordinates of the non-zero elements of `x` in row-major order: i64 [rank, count]; binds the
/// symbol `count`.
struct NonZero {
    Value x;
    std::string count;
    KN_FIELDS(x, count)
    bool operator==(const NonZero&) const = default;
};

/// Result `index` (>= 1) of an operation with several; the operation's own value is result 0.
struct Result {
    Value source;
    std::int64_t index;
    KN_FIELDS(source, index)
    bool operator==(const Result&) const = default;
};

// ---- views: no arithmetic ----

/// The same elements in row-major order under another shape of the same size.
struct Reshape {
    Value x;
    Shape shape;
    KN_FIELDS(x, shape)
    bool operator==(const Reshape&) const = default;
};

/// Result axis i is x's axis perm[i].
struct Permute {
    Value x;
    Ints perm;
    KN_FIELDS(x, perm)
    bool operator==(const Permute&) const = default;
};

/// Same rank; each dim of x is the result's or 1.
struct Broadcast {
    Value x;
    Shape shape;
    KN_FIELDS(x, shape)
    bool operator==(const Broadcast&) const = default;
};

/// Along axis a, result index i is x's index starts[a] + i * steps[a]; steps may be negative
/// (flip), never 0. All axes are given.
struct Slice {
    Value x;
    std::vector<Dim> starts;
    Ints steps;
    Shape shape;
    KN_FIELDS(x, starts, steps, shape)
    bool operator==(const Slice&) const = default;
};

/// Sliding windows: axis axes[j] shrinks to (size - (sizes[j]-1)*dilations[j] - 1) / strides[j] + 1
/// positions (0 if negative), and a new last axis of sizes[j] is appended for each, in the order of
/// `axes`.
struct Window {
    Value x;
    Ints axes;
    std::vector<Dim> sizes;
    Ints strides;
    Ints dilations;
    KN_FIELDS(x, axes, sizes, strides, dilations)
    bool operator==(const Window&) const = default;
};

// ---- copies ----

/// One behind the other along `axis`; dtypes and the other dims are equal.
struct Concat {
    std::vector<Value> inputs;  ///< at least one
    std::int64_t axis;
    KN_FIELDS(inputs, axis)
    bool operator==(const Concat&) const = default;
};

/// Adds before[a] and after[a] (>= 0) elements along each axis. `value`: a scalar of x's dtype, for
/// PadMode::Constant only. Edge repeats the edge element, Reflect excludes it and needs pads below
/// the size, Wrap repeats the tensor.
struct Pad {
    Value x;
    std::vector<Dim> before;
    std::vector<Dim> after;
    PadMode mode;
    std::optional<Value> value;
    KN_FIELDS(x, before, after, mode, value)
    bool operator==(const Pad&) const = default;
};

/// Takes slices of x along `axis`: shape x[:axis] + indices.shape + x[axis+1:]. Indices (i32 or
/// i64; all gathers and scatters) in [-n, n), negative ones count from the end; an index out of
/// range is an error on the CPU and unspecified elsewhere.
struct Gather {
    Value x;
    Value indices;
    std::int64_t axis;
    KN_FIELDS(x, indices, axis)
    bool operator==(const Gather&) const = default;
};

/// result[i][j][k] = x[indices[i][j][k]][j][k] for axis 0, and likewise.
struct GatherElements {
    Value x;
    Value indices;
    std::int64_t axis;
    KN_FIELDS(x, indices, axis)
    bool operator==(const GatherElements&) const = default;
};

/// The last axis of indices holds a coordinate prefix (after batch_dims common axes).
struct GatherNd {
    Value x;
    Value indices;
    std::int64_t batch_dims;
    KN_FIELDS(x, indices, batch_dims)
    bool operator==(const GatherNd&) const = default;
};

/// x with x[indices[i][j]][j] (for axis 0) combined with updates[i][j]; with None and repeated
/// indices the last one wins.
struct ScatterElements {
    Value x;
    Value indices;
    Value updates;
    std::int64_t axis;
    ScatterReduction reduction;
    KN_FIELDS(x, indices, updates, axis, reduction)
    bool operator==(const ScatterElements&) const = default;
};

/// x with x[indices[i]] combined with updates[i], where the last axis of indices holds a coordinate
/// prefix, as in GatherNd without batch dims.
struct ScatterNd {
    Value x;
    Value indices;
    Value updates;
    ScatterReduction reduction;
    KN_FIELDS(x, indices, updates, reduction)
    bool operator==(const ScatterNd&) const = default;
};

// ---- elementwise ----

/// A row of KN_UNARY_OPS, and of KN_BINARY_OPS.
struct Unary {
    UnaryOp op;
    Value x;
    KN_FIELDS(op, x)
    bool operator==(const Unary&) const = default;
};

struct Binary {
    BinaryOp op;
    Value a;
    Value b;
    KN_FIELDS(op, a, b)
    bool operator==(const Binary&) const = default;
};

/// condition (bool) ? a : b
struct Select {
    Value condition;
    Value a;
    Value b;
    KN_FIELDS(condition, a, b)
    bool operator==(const Select&) const = default;
};

/// Float to integer truncates and saturates, NaN gives 0; integer to integer wraps; to bool is
/// "!= 0"; to a narrower float rounds to nearest even.
struct Cast {
    Value x;
    DType dtype;
    KN_FIELDS(x, dtype)
    bool operator==(const Cast&) const = default;
};

/// The same bits as another dtype of the same size (bool excepted).
struct BitCast {
    Value x;
    DType dtype;
    KN_FIELDS(x, dtype)
    bool operator==(const BitCast&) const = default;
};

// ---- reductions ----

/// Removes `axes` (sorted, unique, may be empty). Over nothing: Sum 0, Prod 1, Mean NaN, Max the
/// lowest value (-inf), Min the highest. NaN wins in Max and Min. bool: Max is any, Min is all.
/// Mean is of floats only.
struct Reduce {
    ReduceOp op;
    Value x;
    Ints axes;
    KN_FIELDS(op, x, axes)
    bool operator==(const Reduce&) const = default;
};

/// Index (i64) of the largest (smallest) element along an axis, which it removes; of equal ones the
/// first, or the last.
struct ArgReduce {
    bool largest;
    bool last;
    Value x;
    std::int64_t axis;
    KN_FIELDS(largest, last, x, axis)
    bool operator==(const ArgReduce&) const = default;
};

/// Running Sum or Prod along an axis; exclusive: without the element itself; reverse: from the end.
struct Cumulative {
    ReduceOp op;
    Value x;
    std::int64_t axis;
    bool exclusive;
    bool reverse;
    KN_FIELDS(op, x, axis, exclusive, reverse)
    bool operator==(const Cumulative&) const = default;
};

/// The k largest or smallest along an axis, in order; of equal ones the lower index first.
/// Result 0: values, result 1: i64 indices.
struct TopK {
    Value x;
    std::int64_t axis;
    Dim k;
    bool largest;
    KN_FIELDS(x, axis, k, largest)
    bool operator==(const TopK&) const = default;
};

// ---- linear algebra ----

/// [..., M, K] x [..., K, N]; equal leading dims (none is fine).
struct MatMul {
    Value a;
    Value b;
    KN_FIELDS(a, b)
    bool operator==(const MatMul&) const = default;
};

/// x [N, C, spatial...], w [M, C/groups, kernel...] -> [N, M, out...]; 1 to 3 spatial axes; zero
/// padding: out = (in + before + after - (kernel - 1) * dilation - 1) / stride + 1.
struct Conv {
    Value x;
    Value w;
    Ints strides;
    Ints dilations;
    std::vector<Dim> pads_before;
    std::vector<Dim> pads_after;
    std::int64_t groups;
    KN_FIELDS(x, w, strides, dilations, pads_before, pads_after, groups)
    bool operator==(const Conv&) const = default;
};

/// The gradient of Conv: x [N, C, spatial...], w [C, M/groups, kernel...] -> [N, M, out...] with
/// out = (in - 1) * stride + (kernel - 1) * dilation + 1 - before - after + output_padding.
/// Pads may be negative.
struct ConvTranspose {
    Value x;
    Value w;
    Ints strides;
    Ints dilations;
    std::vector<Dim> pads_before;
    std::vector<Dim> pads_after;
    std::vector<Dim> output_padding;
    std::int64_t groups;
    KN_FIELDS(x, w, strides, dilations, pads_before, pads_after, output_padding, groups)
    bool operator==(const ConvTranspose&) const = default;
};

// ---- composites, each with a decomposition (kn/graph/decompose.h) ----

/// Along one axis; log: the logarithm of it.
struct Softmax {
    Value x;
    std::int64_t axis;
    bool log;
    KN_FIELDS(x, axis, log)
    bool operator==(const Softmax&) const = default;
};

/// MeanVariance: (x - mean) / sqrt(variance + epsilon); MeanSquare: x / sqrt(mean(x^2) + epsilon);
/// over `axes` (sorted). Half types: statistics and division in f32.
struct Norm {
    NormKind kind;
    Value x;
    Ints axes;
    double epsilon;
    KN_FIELDS(kind, x, axes, epsilon)
    bool operator==(const Norm&) const = default;
};

/// softmax(scale * q k^T + mask) v: q [B, H, S, D], k [B, G, T, D], v [B, G, T, E] -> [B, H, S, E].
/// H is a multiple of G: head h reads h / (H/G) of k and v.
/// mask: [1|B, 1|H, 1|S, T], of q's dtype (added) or bool (false: excluded).
/// TopLeft: position s sees t <= s; BottomRight: t <= s + T - S.
/// A row that sees nothing gives NaN, as IEEE arithmetic does with a mask of -inf.
/// Half types: scores and softmax in f32.
struct Attention {
    Value q;
    Value k;
    Value v;
    std::optional<Value> mask;
    double scale;
    CausalMask causal;
    KN_FIELDS(q, k, v, mask, scale, causal)
    bool operator==(const Attention&) const = default;
};

/// Interpolation along `axes` to `sizes`, as ONNX Resize defines it. scales[j] = output / input as
/// the model gives it (0: sizes[j] / input size).
struct Resize {
    Value x;
    Ints axes;
    std::vector<Dim> sizes;
    std::vector<double> scales;
    std::vector<double> roi;  ///< start and end per axis, for TfCropAndResize; else empty
    ResizeMode mode;
    ResizeCoordinates coordinates;
    NearestMode nearest;
    double cubic_a;
    bool exclude_outside;
    bool antialias;
    double extrapolation;
    KN_FIELDS(x, axes, sizes, scales, roi, mode, coordinates, nearest, cubic_a, exclude_outside,
              antialias, extrapolation)
    bool operator==(const Resize&) const = default;
};

/// As ONNX GridSample, d = 2 or 3: x [N, C, in...], grid [N, out..., d] -> [N, C, out...].
/// Coordinates are in [-1, 1], that of the last spatial axis first.
struct GridSample {
    Value x;
    Value grid;
    ResizeMode mode;
    GridPadding padding;
    bool align_corners;
    KN_FIELDS(x, grid, mode, padding, align_corners)
    bool operator==(const GridSample&) const = default;
};

/// One direction of an ONNX LSTM, GRU or RNN, with g = 4, 3, 1 gates in ONNX's order.
/// x [T, B, I], w [g H, I], r [g H, H], bias [2 g H], lengths i32 [B], h0 and c0 [B, H],
/// peephole [3 H]. Results: all hidden states [T, B, H], the last one [B, H], for Lstm also the
/// last cell [B, H].
struct Recurrent {
    CellKind kind;
    Value x;
    Value w;
    Value r;
    std::optional<Value> bias;
    std::optional<Value> lengths;
    std::optional<Value> h0;
    std::optional<Value> c0;
    std::optional<Value> peephole;
    std::vector<CellActivation> activations;  ///< 3, 2, 1 of them
    std::vector<double> alphas;               ///< one each
    std::vector<double> betas;
    /// Bounds the operands of the gates' functions (so not the cell state).
    std::optional<double> clip;
    bool reverse;
    bool linear_before_reset;
    bool input_forget;
    KN_FIELDS(kind, x, w, r, bias, lengths, h0, c0, peephole, activations, alphas, betas, clip,
              reverse, linear_before_reset, input_forget)
    bool operator==(const Recurrent&) const = default;
};

/// Discrete Fourier transform along `axis` of complex numbers: the last axis of x has size 2
/// (real, imaginary). inverse: conjugate and divided by the length.
struct Dft {
    Value x;
    std::int64_t axis;
    bool inverse;
    KN_FIELDS(x, axis, inverse)
    bool operator==(const Dft&) const = default;
};

// ---- control flow ----
// A body is a closed graph: its inputs are the values that the operation passes, in order. It
// shares the symbols of the graph around it. Symbols that its input shapes introduce are bound by
// the shapes passed. `results` gives the types of the results; symbols in them that are new here
// are bound at run time.

struct If {
    Value condition;  ///< bool, one element
    std::vector<Value> captures;
    std::shared_ptr<const Graph> then_body;  ///< (captures...) -> results
    std::shared_ptr<const Graph> else_body;  ///< (captures...) -> results
    std::vector<Type> results;
    KN_FIELDS(condition, captures, then_body, else_body, results)
    bool operator==(const If&) const = default;
};

/// for (i = 0; (no trip_count or i < trip_count) and condition; i++)
///     (condition, carried, scanned) = body(i, condition, carried..., captures...)
/// Results: the last carried values, then each scanned value stacked along a new axis 0 (over no
/// iteration: [0, ...]).
struct Loop {
    std::optional<Value> trip_count;  ///< i64, one element
    std::optional<Value> condition;   ///< bool, one element
    std::vector<Value> carried;
    std::vector<Value> captures;
    std::shared_ptr<const Graph> body;
    std::vector<Type> results;
    KN_FIELDS(trip_count, condition, carried, captures, body, results)
    bool operator==(const Loop&) const = default;
};

}  // namespace op

/// Every operation. A new one: its struct above, a line here, `infer` in src/ir/infer_*.cpp, `eval`
/// in src/cpu/eval_*.cpp (both are link errors when missing).
// clang-format off
#define KN_OPERATIONS(X)                                                                       \
    X(Input) X(Constant) X(ShapeValue) X(Iota) X(ReadDims) X(NonZero) X(Result)                \
    X(Reshape) X(Permute) X(Broadcast) X(Slice) X(Window) X(Concat) X(Pad)                     \
    X(Gather) X(GatherElements) X(GatherNd) X(ScatterElements) X(ScatterNd)                    \
    X(Unary) X(Binary) X(Select) X(Cast) X(BitCast)                                            \
    X(Reduce) X(ArgReduce) X(Cumulative) X(TopK)                                               \
    X(MatMul) X(Conv) X(ConvTranspose)                                                         \
    X(Softmax) X(Norm) X(Attention) X(Resize) X(GridSample) X(Recurrent) X(Dft)                \
    X(If) X(Loop)
// clang-format on

using Operation = std::variant<
#define X(name) op::name,
    KN_OPERATIONS(X)
#undef X
        std::monostate>;

struct ConstantData::Recipe {
    Operation operation;  ///< its Value operands are numbered 0, 1, ... in the order of op::inputs
    std::vector<std::shared_ptr<const ConstantData>> inputs;
};

/// "Conv"
KN_API std::string_view name_of(const Operation& operation);
/// The operands in the order of the fields.
KN_API std::vector<Value> inputs_of(const Operation& operation);
/// The same operation over other operands: `map` is called once for each, in that order.
template <class Map>
Operation map_inputs(Operation operation, Map&& map);
/// "Conv(x=%3, w=%4, strides=[2, 2], ...)"
KN_API std::string to_string(const Operation& operation);
/// Whether the operation is one of these kinds: is_any_of<op::Conv, op::MatMul>(operation).
template <class... Ops>
bool is_any_of(const Operation& operation) {
    return (std::holds_alternative<Ops>(operation) || ...);
}
/// Unary, Binary, Select or Cast: arithmetic that makes each element of the result from the
/// elements of the operands at the same place.
KN_API bool is_elementwise(const Operation& operation);

}  // namespace kn

#include <kn/graph/detail/visit.h>
