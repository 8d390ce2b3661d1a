// QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear.
#include <fmt/core.h>

#include "onnx/import_util.h"
#include "onnx/quantize.h"

namespace kn::onnx {

namespace {

struct Range {
    double low;
    double high;
};

Range range_of(DType dtype) {
    switch (dtype) {
        case DType::I8: return {-128, 127};
        case DType::U8: return {0, 255};
        case DType::I16: return {-32768, 32767};
        case DType::U16: return {0, 65535};
        default: throw GraphError(fmt::format("{} is no quantised type", name_of(dtype)));
    }
}

/// Each entry of a blocked scale, repeated along `axis` and cut to the size of x.
Var unblock(Node& node, Var parameter, const Shape& x, std::size_t axis, std::int64_t block) {
    if (parameter.rank() != x.rank())
        node.broken(fmt::format("a blocked scale of rank {} for an input of rank {}",
                                parameter.rank(), x.rank()));
    const Dim blocks = parameter.shape()[axis];
    node.graph().require_equal(blocks, ceil_div(x[axis], block), "blocks of the scale");
    Shape spread = parameter.shape();
    Shape joined = spread;
    joined[axis] = blocks * block;
    std::vector<Dim> dims = spread.dims();
    dims.insert(dims.begin() + static_cast<std::ptrdiff_t>(axis) + 1, Dim(block));
    const auto next = static_cast<std::int64_t>(axis) + 1;
    Var repeated = reshape(broadcast_to(unsqueeze(parameter, {next}), Shape(dims)), joined);
    return slice(repeated, next - 1, 0, x[axis]);
}

/// The shape of a scale or zero point that fits x [...], by its rank: per tensor, per axis or
/// blocked.
struct Granularity {
    Node& node;
    Shape x;
    std::int64_t axis;
    std::int64_t block;

    Var fit(Var parameter) const {
        if (block > 0 && parameter.rank() > 1)
            return unblock(node, parameter, x, normalize_axis(axis, x.rank()), block);
        if (parameter.rank() > 1)
            node.broken(fmt::format("a scale or zero point of rank {}", parameter.rank()));
        if (block > 0 && x.rank() == 1 && parameter.rank() == 1)
            return unblock(node, parameter, x, 0, block);
        return parameter_along(node, parameter, x.rank(), axis);
    }
};

Granularity read_granularity(Node& node, const Shape& x) {
    // com.microsoft counts its own versions.
    const auto axis = node.opset() >= 13 || node.has_attr("axis") ? node.attr_int("axis", 1) : 1;
    const auto block = node.opset() >= 21 ? node.attr_int("block_size", 0) : 0;
    if (block < 0) node.broken(fmt::format("block_size is {}", block));
    return {node, x, axis, block};
}

/// An attribute that holds an ONNX dtype, 0 meaning none.
std::optional<DType> optional_dtype(Node& node, const char* name) {
    if (node.attr_int(name, 0) == 0) return {};
    return node.attr_dtype(name);
}

std::vector<Var> import_quantize_linear(Node& node) {
    Var x = node.input(0);
    Var scale = node.input(1);
    const auto zero_point = node.optional_input(2);
    const Granularity granularity = read_granularity(node, x.shape());
    DType dtype = zero_point ? zero_point->dtype() : DType::U8;
    if (node.opset() >= 19) node.ignore_attr("saturate");  // of 8-bit floats only
    if (node.opset() >= 21) {
        const auto asked = optional_dtype(node, "output_dtype");
        if (asked && zero_point && *asked != dtype)
            node.broken("output_dtype is not the zero point's type");
        dtype = asked.value_or(dtype);
    }
    if (!is_int(dtype) || size_of(dtype) > 2)
        node.unsupported(fmt::format("quantisation to {}", name_of(dtype)));
    std::optional<DType> precision;
    if (node.opset() >= 23) precision = optional_dtype(node, "precision");
    const DType work = precision.value_or(is_float(scale.dtype()) ? scale.dtype() : DType::F32);
    Var quotient = cast(x, work) / granularity.fit(cast(scale, work));
    std::optional<Var> shift;
    if (zero_point) shift = granularity.fit(cast(*zero_point, DType::F32));
    return {saturate(quotient, shift, dtype)};
}

std::vector<Var> import_dequantize_linear(Node& node) {
    Var x = node.input(0);
    Var scale = node.input(1);
    const auto zero_point = node.optional_input(2);
    const Granularity granularity = read_granularity(node, x.shape());
    DType dtype = scale.dtype();
    if (node.opset() >= 23) dtype = optional_dtype(node, "output_dtype").value_or(dtype);
    if (!is_float(dtype) || !is_int(x.dtype()))
        node.unsupported(fmt::format("{} dequantised to {}", name_of(x.dtype()), name_of(dtype)));
    std::optional<Var> shift;
    if (zero_point) shift = granularity.fit(*zero_point);
    return {cast(dequantize(x, granularity.fit(scale), shift), dtype)};
}

std::vector<Var> import_dynamic_quantize_linear(Node& node) {
    const Quantised q = quantize_dynamically(node.input(0));
    return {q.x, q.scale, *q.zero_point};
}

}  // namespace

Var dequantize(Var x, Var scale, std::optional<Var> zero_point) {
    // Exact either way; f32 holds what has 16 bits, the differences included.
    const bool narrow = size_of(x.dtype()) <= 2;
    Var difference = x;
    if (zero_point && narrow)
        difference = cast(x, DType::F32) - cast(*zero_point, DType::F32);
    else if (zero_point)
        difference = x - *zero_point;
    return cast(difference, DType::F32) * cast(scale, DType::F32);
}

Var saturate(Var x, std::optional<Var> zero_point, DType dtype) {
    const Range range = range_of(dtype);
    Var rounded = cast(unary(UnaryOp::Round, x), DType::F32);
    if (zero_point) rounded = rounded + cast(*zero_point, DType::F32);
    return cast(clamp(rounded, range.low, range.high), dtype);
}

Var quantize(Var x, Var scale, Var zero_point) {
    return saturate(x / scale, zero_point, zero_point.dtype());
}

Var parameter_along(Node& node, Var parameter, std::size_t rank, std::int64_t axis) {
    if (parameter.rank() == 0 || rank == 0) return as_scalar(parameter);
    if (parameter.rank() > 1)
        node.broken(fmt::format("a scale or zero point of rank {}", parameter.rank()));
    if (parameter.shape()[0] == 1) return as_scalar(parameter);
    Ints added;
    for (auto i = normalize_axis(axis, rank) + 1; i < rank; ++i)
        added.push_back(static_cast<std::int64_t>(added.size()) + 1);
    return added.empty() ? parameter : unsqueeze(parameter, added);
}

Var centred(Var x, std::optional<Var> zero_point) {
    Var wide = cast(x, DType::I32);
    return zero_point ? wide - cast(*zero_point, DType::I32) : wide;
}

Quantised quantize_dynamically(Var x) {
    const Ints axes = axes_from(x.rank(), 0);
    Var zero = scalar_like(x, 0);
    Var low = minimum(reduce(ReduceOp::Min, x, axes), zero);
    Var range = maximum(reduce(ReduceOp::Max, x, axes), zero) - low;
    Var scale = select(equal(range, zero), scalar_like(x, 1), range) / 255.0;
    Var zero_point = saturate((zero - low) / scale, {}, DType::U8);
    return {quantize(x, scale, zero_point), scale, zero_point};
}

Quantised read_quantised(Node& node, std::size_t first) {
    Quantised q{node.input(first), as_scalar(node.input(first + 1)),
                node.optional_input(first + 2)};
    if (q.zero_point) q.zero_point = as_scalar(*q.zero_point);
    return q;
}

std::vector<ImportRow> quantize_rows() {
    std::vector<ImportRow> rows = {
        {"", "QuantizeLinear", 10, import_quantize_linear},
        {"", "DequantizeLinear", 10, import_dequantize_linear},
        {"com.microsoft", "QuantizeLinear", 1, import_quantize_linear},
        {"com.microsoft", "DequantizeLinear", 1, import_dequantize_linear},
        {"", "DynamicQuantizeLinear", 11, import_dynamic_quantize_linear},
    };
    append(rows, integer_rows());
    return rows;
}

}  // namespace kn::onnx
