// Networks in code: functions over Var that broadcast as NumPy does, infer sizes, and add the
// operations of ops.h.
//
//     kn::Graph g;
//     kn::Var x = g.input("x", kn::DType::F32, {kn::Dim::symbol("batch"), 3, 32, 32});
//     kn::Var y = kn::relu(kn::conv(x, g.constant(w), g.constant(b), {.pads = {1, 1, 1, 1}}));
//     g.output("y", kn::mean(y, {2, 3}) * 0.5);
//
// All operands of a call must belong to one graph. Axes may be negative (from the end). Every
// function throws GraphError when shapes or dtypes do not fit; nothing is computed here, and
// constants stay shared.
#pragma once

#include <initializer_list>
#include <span>
#include <vector>

#include <kn/graph/graph.h>

namespace kn {

// ---- constants ----

/// A rank-0 constant of `like`'s graph and dtype.
KN_API Var scalar_like(Var like, double value);
KN_API Var scalar(Graph& graph, DType dtype, double value);  ///< rank 0
KN_API Var vector_i64(Graph& graph, const Ints& values);     ///< of shape [values.size()]
/// i64 of shape [dims.size()] (a plain constant where all dims are numbers).
KN_API Var shape_value(Graph& graph, const std::vector<Dim>& dims);
KN_API Var scalar_dim(Graph& graph, const Dim& dim);  ///< i64, rank 0
KN_API Var iota(Graph& graph, const Dim& length);     ///< 0, 1, ... as i64 [length]
/// A tensor of one value; broadcast, so it costs nothing.
KN_API Var full(Graph& graph, DType dtype, const Shape& shape, double value);

// ---- elementwise; operands broadcast and must have equal dtypes ----

/// Any function of scalar_ops.h, which says what it accepts.
KN_API Var unary(UnaryOp op, Var x);
KN_API Var binary(BinaryOp op, Var a, Var b);
KN_API Var select(Var condition, Var a, Var b);  ///< condition ? a : b
KN_API Var cast(Var x, DType dtype);             ///< as op::Cast; x itself if it has the dtype
KN_API Var bit_cast(Var x, DType dtype);         ///< to a dtype of the same size

KN_API Var operator+(Var a, Var b);
KN_API Var operator-(Var a, Var b);
KN_API Var operator*(Var a, Var b);
KN_API Var operator/(Var a, Var b);
KN_API Var operator-(Var a);
KN_API Var operator+(Var a, double b);
KN_API Var operator-(Var a, double b);
KN_API Var operator*(Var a, double b);
KN_API Var operator/(Var a, double b);
KN_API Var operator+(double a, Var b);
KN_API Var operator-(double a, Var b);
KN_API Var operator*(double a, Var b);
KN_API Var operator/(double a, Var b);

KN_API Var equal(Var a, Var b);
KN_API Var not_equal(Var a, Var b);
KN_API Var less(Var a, Var b);
KN_API Var less_equal(Var a, Var b);
KN_API Var greater(Var a, Var b);
KN_API Var greater_equal(Var a, Var b);
KN_API Var logical_and(Var a, Var b);
KN_API Var logical_or(Var a, Var b);
KN_API Var logical_not(Var a);
KN_API Var minimum(Var a, Var b);
KN_API Var maximum(Var a, Var b);
KN_API Var pow(Var a, Var b);

KN_API Var relu(Var x);
KN_API Var clamp(Var x, double low, double high);
KN_API Var leaky_relu(Var x, double slope);                 ///< x < 0 ? slope x : x
KN_API Var elu(Var x, double alpha = 1.0);                  ///< x < 0 ? alpha (exp(x) - 1) : x
KN_API Var hard_sigmoid(Var x, double alpha, double beta);  ///< max(0, min(1, alpha x + beta))
KN_API Var exp(Var x);
KN_API Var log(Var x);
KN_API Var sqrt(Var x);
KN_API Var abs(Var x);
KN_API Var sin(Var x);
KN_API Var cos(Var x);
KN_API Var tanh(Var x);
KN_API Var sigmoid(Var x);
KN_API Var silu(Var x);
KN_API Var gelu(Var x);
KN_API Var gelu_tanh(Var x);
KN_API Var square(Var x);

// ---- shapes ----

/// As NumPy: missing leading dims are added. Unprovable dims become constraints.
KN_API Var broadcast_to(Var x, const Shape& shape);
/// The broadcast of two shapes in `graph` (which keeps the constraints).
KN_API Shape broadcast_shapes(Graph& graph, const Shape& a, const Shape& b);
/// The sizes must be provably equal, else equality becomes a constraint.
KN_API Var reshape(Var x, const Shape& shape);
KN_API Var permute(Var x, const Ints& perm);  ///< axis i of the result is axis perm[i]
/// Two axes exchanged.
KN_API Var transpose(Var x, std::int64_t axis_a = -1, std::int64_t axis_b = -2);
KN_API Var squeeze(Var x, const Ints& axes);    ///< each must be 1
KN_API Var unsqueeze(Var x, const Ints& axes);  ///< axes of the result
KN_API Var flatten(Var x, std::int64_t axis);   ///< to 2 dims, split before `axis`
/// Elements start, start + step, ... before end along an axis, both within 0..size (no wrapping or
/// clamping here; a negative step runs down, to -1 for all).
KN_API Var slice(Var x, std::int64_t axis, const Dim& start, const Dim& end, std::int64_t step = 1);
KN_API Var flip(Var x, std::int64_t axis);
KN_API Var concat(const std::vector<Var>& parts, std::int64_t axis);
/// Parts of these sizes, which must add up to the axis's.
KN_API std::vector<Var> split(Var x, std::int64_t axis, const std::vector<Dim>& sizes);
KN_API Var tile(Var x, const std::vector<Dim>& repeats);  ///< one entry per axis
/// One entry per axis; negative ones crop.
KN_API Var pad(Var x, const std::vector<Dim>& before, const std::vector<Dim>& after,
               double value = 0);
KN_API Var pad(Var x, const std::vector<Dim>& before, const std::vector<Dim>& after, PadMode mode);
KN_API Var gather(Var x, Var indices, std::int64_t axis);           ///< as op::Gather
KN_API Var gather_elements(Var x, Var indices, std::int64_t axis);  ///< as op::GatherElements

// ---- reductions: over `axes`, which stay with size 1 or vanish; over none where it is empty ----

KN_API Var reduce(ReduceOp op, Var x, const Ints& axes, bool keep_dims = false);
KN_API Var sum(Var x, const Ints& axes, bool keep_dims = false);
KN_API Var mean(Var x, const Ints& axes, bool keep_dims = false);
/// i64; of equal elements the first.
KN_API Var arg_max(Var x, std::int64_t axis, bool keep_dims = false);
KN_API Var softmax(Var x, std::int64_t axis = -1);
KN_API Var log_softmax(Var x, std::int64_t axis = -1);
struct TopKResult {
    Var values;   ///< the largest (or smallest) first
    Var indices;  ///< i64
};
KN_API TopKResult top_k(Var x, const Dim& k, std::int64_t axis = -1, bool largest = true);

// ---- linear algebra, convolution, pooling ----

/// As NumPy's matmul: leading dims broadcast, vectors gain a dim and lose it again.
KN_API Var matmul(Var a, Var b);
/// x [..., I] times weight [I, O] plus bias [O] -> [..., O].
KN_API Var linear(Var x, Var weight, std::optional<Var> bias = {});

struct ConvOptions {
    Ints strides = {};           ///< one per spatial axis; empty: 1
    Ints dilations = {};         ///< likewise
    std::vector<Dim> pads = {};  ///< all begins, then all ends; empty: 0
    std::int64_t groups = 1;
    std::vector<Dim> output_padding = {};  ///< of conv_transpose; empty: 0
};
/// As op::Conv and op::ConvTranspose; bias has an element for each output channel.
KN_API Var conv(Var x, Var weight, std::optional<Var> bias = {}, const ConvOptions& options = {});
KN_API Var conv_transpose(Var x, Var weight, std::optional<Var> bias = {},
                          const ConvOptions& options = {});

struct PoolOptions {
    Ints strides = {};  ///< empty: 1 (as ONNX)
    Ints dilations = {};
    std::vector<Dim> pads = {};  ///< all begins, then all ends
};
/// Over the trailing axes of x, as many as `kernel` has. Padding counts as -inf (lowest for
/// integers).
KN_API Var max_pool(Var x, const std::vector<Dim>& kernel, const PoolOptions& options = {});
/// count_pads: divide by the kernel's size; else by the number of elements inside x.
KN_API Var average_pool(Var x, const std::vector<Dim>& kernel, const PoolOptions& options = {},
                        bool count_pads = false);
/// As op::Window.
KN_API Var window(Var x, const Ints& axes, const std::vector<Dim>& sizes, const Ints& strides,
                  const Ints& dilations);

// ---- normalisation and attention ----

/// As op::Norm.
KN_API Var normalize(NormKind kind, Var x, const Ints& axes, double epsilon);
/// Over the last `scale.rank()` axes; scale and bias have their shape.
KN_API Var layer_norm(Var x, Var scale, std::optional<Var> bias, double epsilon = 1e-5);
KN_API Var rms_norm(Var x, Var scale, double epsilon = 1e-5);
/// x [N, C, ...], scale and bias [C]
KN_API Var group_norm(Var x, std::int64_t groups, Var scale, Var bias, double epsilon = 1e-5);
/// q [B, H, S, D], k and v [B, G, T, ...]; scale 0 means 1/sqrt(D).
KN_API Var attention(Var q, Var k, Var v, std::optional<Var> mask = {}, double scale = 0,
                     CausalMask causal = CausalMask::None);

// ---- another graph inside this one ----

/// Inserts `source`, its inputs in order replaced by `inputs`, and gives its outputs.
KN_API std::vector<Var> call(const Graph& source, const std::vector<Var>& inputs);

}  // namespace kn
