// Arithmetic, comparison, logic, bits and conversions.
#include "onnx/import_util.h"

namespace kn::onnx {

namespace {

template <UnaryOp op>
std::vector<Var> import_unary(Node& node) {
    return {unary(op, node.input(0))};
}

template <BinaryOp op>
std::vector<Var> import_binary(Node& node) {
    return {binary(op, node.input(0), node.input(1))};
}

std::vector<Var> import_greater(Node& node) { return {greater(node.input(0), node.input(1))}; }

std::vector<Var> import_greater_equal(Node& node) {
    return {greater_equal(node.input(0), node.input(1))};
}

template <BinaryOp op>
Var fold(Node& node) {
    const std::vector<Var> inputs = node.all_inputs();
    if (inputs.empty()) node.broken("no input");
    Var result = inputs[0];
    for (std::size_t i = 1; i < inputs.size(); ++i) result = binary(op, result, inputs[i]);
    return result;
}

template <BinaryOp op>
std::vector<Var> import_variadic(Node& node) {
    return {fold<op>(node)};
}

std::vector<Var> import_mean(Node& node) {
    return {fold<BinaryOp::Add>(node) / static_cast<double>(node.input_count())};
}

std::vector<Var> import_mod(Node& node) {
    const std::int64_t truncated = node.attr_int("fmod", 0);
    if (truncated != 0 && truncated != 1) node.broken(fmt::format("fmod is {}", truncated));
    return {binary(truncated ? BinaryOp::Fmod : BinaryOp::Mod, node.input(0), node.input(1))};
}

// The dtype in which a power is computed, before it becomes the base's again.
DType power_dtype(DType base, DType exponent) {
    if (base == exponent) return base;
    if (is_float(base) && is_float(exponent))
        return base == DType::F64 || exponent == DType::F64 ? DType::F64 : DType::F32;
    if (is_float(base)) return is_half(base) ? DType::F32 : base;
    return is_float(exponent) ? DType::F64 : DType::I64;
}

std::vector<Var> import_pow(Node& node) {
    const Var base = node.input(0);
    const Var exponent = node.input(1);
    const DType dtype = power_dtype(base.dtype(), exponent.dtype());
    return {cast(pow(cast(base, dtype), cast(exponent, dtype)), base.dtype())};
}

std::vector<Var> import_bit_shift(Node& node) {
    const std::string direction = node.attr_string("direction", "");
    if (direction != "LEFT" && direction != "RIGHT")
        node.broken("direction is '" + direction + "', it must be LEFT or RIGHT");
    const Var x = node.input(0);
    Var by = node.input(1);
    // A negative distance counts as one beyond the width.
    if (is_signed_int(by.dtype()))
        by = select(less(by, zero_like(by)),
                    scalar_like(by, 8.0 * static_cast<double>(size_of(by.dtype()))), by);
    return {binary(direction == "LEFT" ? BinaryOp::ShiftLeft : BinaryOp::ShiftRight, x, by)};
}

std::vector<Var> import_is_inf(Node& node) {
    const bool negative = node.attr_int("detect_negative", 1) != 0;
    const bool positive = node.attr_int("detect_positive", 1) != 0;
    const Var x = node.input(0);
    const Var infinite = unary(UnaryOp::IsInf, x);
    if (negative && positive) return {infinite};
    if (positive) return {logical_and(infinite, greater(x, zero_like(x)))};
    if (negative) return {logical_and(infinite, less(x, zero_like(x)))};
    return {full(node.graph(), DType::Bool, x.shape(), 0)};
}

std::vector<Var> import_where(Node& node) {
    return {select(node.input(0), node.input(1), node.input(2))};
}

std::vector<Var> import_binarizer(Node& node) {
    const Var x = node.input(0);
    const Var threshold = scalar_like(x, node.attr_float("threshold", 0.0));
    return {cast(greater(x, threshold), x.dtype())};
}

// Bounds as attributes. Without one (or with the largest number, its default) nothing is cut.
std::vector<Var> import_clip_6(Node& node) {
    constexpr double largest = 3.4028234663852886e38;
    Var x = node.input(0);
    const double low = node.attr_float("min", -largest);
    const double high = node.attr_float("max", largest);
    if (low > -largest) x = maximum(x, scalar_like(x, low));
    if (high < largest) x = minimum(x, scalar_like(x, high));
    return {x};
}

std::vector<Var> import_clip(Node& node) {
    Var x = node.input(0);
    if (const auto low = node.optional_input(1)) x = maximum(x, as_scalar(*low));
    if (const auto high = node.optional_input(2)) x = minimum(x, as_scalar(*high));
    return {x};
}

// `saturate` and `round_mode` concern 8-bit floats only.
void ignore_narrow_float_attrs(Node& node) {
    if (node.opset() >= 19) node.ignore_attr("saturate");
    if (node.opset() >= 24) node.ignore_attr("round_mode");
}

DType target_dtype(Node& node) {
    const auto dtype = node.attr_dtype("to");
    if (!dtype) node.broken("attribute 'to' is missing");
    return *dtype;
}

std::vector<Var> import_cast(Node& node) {
    ignore_narrow_float_attrs(node);
    return {cast(node.input(0), target_dtype(node))};
}

std::vector<Var> import_cast_like(Node& node) {
    ignore_narrow_float_attrs(node);
    return {cast(node.input(0), node.input(1).dtype())};
}

std::vector<Var> import_bit_cast(Node& node) {
    const Var x = node.input(0);
    const DType dtype = target_dtype(node);
    if (size_of(x.dtype()) != size_of(dtype))
        node.broken(fmt::format("{} and {} differ in size", name_of(x.dtype()), name_of(dtype)));
    // A bool is the byte 0 or 1.
    if (x.dtype() == DType::Bool || dtype == DType::Bool) return {cast(x, dtype)};
    return {bit_cast(x, dtype)};
}

}  // namespace

std::vector<ImportRow> elementwise_rows() {
    return {
        {"", "Add", 7, import_binary<BinaryOp::Add>},
        {"", "Sub", 7, import_binary<BinaryOp::Sub>},
        {"", "Mul", 7, import_binary<BinaryOp::Mul>},
        {"", "Div", 7, import_binary<BinaryOp::Div>},
        {"", "Mod", 10, import_mod},
        {"", "Pow", 7, import_pow},
        {"", "Max", 6, import_variadic<BinaryOp::Max>},
        {"", "Min", 6, import_variadic<BinaryOp::Min>},
        {"", "Sum", 6, import_variadic<BinaryOp::Add>},
        {"", "Mean", 6, import_mean},
        {"", "Neg", 6, import_unary<UnaryOp::Neg>},
        {"", "Abs", 6, import_unary<UnaryOp::Abs>},
        {"", "Sign", 9, import_unary<UnaryOp::Sign>},
        {"", "Floor", 6, import_unary<UnaryOp::Floor>},
        {"", "Ceil", 6, import_unary<UnaryOp::Ceil>},
        {"", "Round", 11, import_unary<UnaryOp::Round>},
        {"", "Sqrt", 6, import_unary<UnaryOp::Sqrt>},
        {"", "Reciprocal", 6, import_unary<UnaryOp::Reciprocal>},
        {"", "Exp", 6, import_unary<UnaryOp::Exp>},
        {"", "Log", 6, import_unary<UnaryOp::Log>},
        {"", "Sin", 7, import_unary<UnaryOp::Sin>},
        {"", "Cos", 7, import_unary<UnaryOp::Cos>},
        {"", "Tan", 7, import_unary<UnaryOp::Tan>},
        {"", "Asin", 7, import_unary<UnaryOp::Asin>},
        {"", "Acos", 7, import_unary<UnaryOp::Acos>},
        {"", "Atan", 7, import_unary<UnaryOp::Atan>},
        {"", "Sinh", 9, import_unary<UnaryOp::Sinh>},
        {"", "Cosh", 9, import_unary<UnaryOp::Cosh>},
        {"", "Asinh", 9, import_unary<UnaryOp::Asinh>},
        {"", "Acosh", 9, import_unary<UnaryOp::Acosh>},
        {"", "Atanh", 9, import_unary<UnaryOp::Atanh>},
        {"", "Erf", 9, import_unary<UnaryOp::Erf>},
        {"", "And", 7, import_binary<BinaryOp::And>},
        {"", "Or", 7, import_binary<BinaryOp::Or>},
        {"", "Xor", 7, import_binary<BinaryOp::Xor>},
        {"", "Not", 1, import_unary<UnaryOp::Not>},
        {"", "BitwiseAnd", 18, import_binary<BinaryOp::BitAnd>},
        {"", "BitwiseOr", 18, import_binary<BinaryOp::BitOr>},
        {"", "BitwiseXor", 18, import_binary<BinaryOp::BitXor>},
        {"", "BitwiseNot", 18, import_unary<UnaryOp::BitNot>},
        {"", "BitShift", 11, import_bit_shift},
        {"", "Equal", 7, import_binary<BinaryOp::Equal>},
        {"", "Less", 7, import_binary<BinaryOp::Less>},
        {"", "LessOrEqual", 12, import_binary<BinaryOp::LessEqual>},
        {"", "Greater", 7, import_greater},
        {"", "GreaterOrEqual", 12, import_greater_equal},
        {"", "IsNaN", 9, import_unary<UnaryOp::IsNan>},
        {"", "IsInf", 10, import_is_inf},
        {"", "Where", 9, import_where},
        {"", "Clip", 6, import_clip_6},
        {"", "Clip", 11, import_clip},
        {"", "Cast", 6, import_cast},
        {"", "CastLike", 15, import_cast_like},
        {"", "BitCast", 26, import_bit_cast},
        {"ai.onnx.ml", "Binarizer", 1, import_binarizer},
    };
}

}  // namespace kn::onnx
