#include <bit>
#include <cmath>

#include <fmt/core.h>

#include "codegen/emit.h"

namespace kn::cuda {

std::string c_type(DType dtype) {
    switch (dtype) {
        case DType::Bool: return "bool";
        case DType::I8: return "signed char";
        case DType::I16: return "short";
        case DType::I32: return "int";
        case DType::I64: return "long long";
        case DType::U8: return "unsigned char";
        case DType::U16: return "unsigned short";
        case DType::U32: return "unsigned";
        case DType::U64: return "unsigned long long";
        case DType::F16: return "kn_half";
        case DType::BF16: return "kn_bf16";
        case DType::F32: return "float";
        case DType::F64: return "double";
    }
    return {};
}

std::string compute_type(DType dtype) { return is_half(dtype) ? "float" : c_type(dtype); }

namespace {

// Small whole numbers for people, the rest in hexadecimal digits, which are exact.
std::string real(double value, const char* suffix) {
    if (value == std::trunc(value) && std::abs(value) < 1e6 && !(value == 0 && std::signbit(value)))
        return fmt::format("{:.1f}{}", value, suffix);
    return fmt::format("{:a}{}", value, suffix);
}

}  // namespace

std::string literal(DType dtype, double value) {
    if (dtype == DType::F64)
        return std::isfinite(value) ? real(value, "")
                                    : fmt::format("kn_bits_to_double({:#x}ull)",
                                                  std::bit_cast<std::uint64_t>(value));
    if (is_float(dtype)) {
        const auto narrow = static_cast<float>(value);
        return std::isfinite(narrow)
                   ? real(narrow, "f")
                   : fmt::format("kn_bits_to_float({:#x}u)", std::bit_cast<std::uint32_t>(narrow));
    }
    if (dtype == DType::Bool) return value != 0 ? "true" : "false";
    return fmt::format("({}){}", c_type(dtype), static_cast<std::int64_t>(value));
}

std::string literal(const Tensor& tensor, std::int64_t i) {
    const DType dtype = tensor.dtype();
    if (is_float(dtype) || dtype == DType::Bool) return literal(dtype, tensor.at(i));
    if (dtype == DType::U64)
        return fmt::format("{}ull", tensor.data<std::uint64_t>()[static_cast<std::size_t>(i)]);
    const std::int64_t value = tensor.int_at(i);
    if (value == INT64_MIN) return "(-9223372036854775807ll - 1)";
    if (dtype == DType::I64) return fmt::format("{}ll", value);
    return fmt::format("({})({}ll)", c_type(dtype), value);
}

}  // namespace kn::cuda
