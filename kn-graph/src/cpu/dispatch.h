// From a dtype to its C++ types.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include <kn/graph/dtype.h>
#include <kn/graph/error.h>

namespace kn::cpu {

/// Calls f.template operator()<T>() with the storage type of `dtype`:
///     dispatch(x.dtype(), [&]<class T>() { kernel(x.data<T>()); });
template <class F>
decltype(auto) dispatch(DType dtype, F&& f) {
    switch (dtype) {
#define X(name, type, text) \
    case DType::name: return f.template operator()<type>();
        KN_DTYPES(X)
#undef X
    }
    throw_internal(__FILE__, __LINE__, "dtype", "");
}

/// Only f16, bf16, f32, f64.
template <class F>
decltype(auto) dispatch_float(DType dtype, F&& f) {
    switch (dtype) {
        case DType::F16: return f.template operator()<half>();
        case DType::BF16: return f.template operator()<bfloat16>();
        case DType::F32: return f.template operator()<float>();
        case DType::F64: return f.template operator()<double>();
        default: throw_internal(__FILE__, __LINE__, "is_float(dtype)", std::string(name_of(dtype)));
    }
}

/// By size alone, for copies: the unsigned integer of the dtype's size.
template <class F>
decltype(auto) dispatch_size(DType dtype, F&& f) {
    switch (size_of(dtype)) {
        case 1: return f.template operator()<std::uint8_t>();
        case 2: return f.template operator()<std::uint16_t>();
        case 4: return f.template operator()<std::uint32_t>();
        default: return f.template operator()<std::uint64_t>();
    }
}

template <class T>
inline constexpr bool is_half_type = std::is_same_v<T, half> || std::is_same_v<T, bfloat16>;

/// The type that arithmetic on T is done in.
template <class T>
using Compute = std::conditional_t<is_half_type<T>, float, T>;

/// Branch-free, so that loops over them vectorise.
inline float widen(half h) {
    // Shift exponent and fraction into place; the multiplication rescales the exponent and
    // normalises subnormals.
    const std::uint32_t magnitude = (h.bits & 0x7fffU) << 13;
    const float scaled = std::bit_cast<float>(magnitude) * 0x1p112F;
    const std::uint32_t special = magnitude >= 0x0f800000U ? 0x7f800000U : 0U;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(scaled) | special |
                                ((h.bits & 0x8000U) << 16));
}
inline float widen(bfloat16 b) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(b.bits) << 16);
}
template <class T>
inline T widen(T x) requires(!is_half_type<T>) {
    return x;
}

template <class T>
inline T narrow(Compute<T> x) requires(!is_half_type<T>) {
    return x;
}
template <class T>
inline T narrow(float x) requires(std::is_same_v<T, bfloat16>) {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
    const std::uint32_t quiet = (bits >> 16) | 0x40U;
    return bfloat16{
        static_cast<std::uint16_t>((bits & 0x7fffffffU) > 0x7f800000U ? quiet : rounded)};
}
template <class T>
inline T narrow(float x) requires(std::is_same_v<T, half>) {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t sign = (bits >> 16) & 0x8000U;
    const std::uint32_t magnitude = bits & 0x7fffffffU;
    // Normal results: rebias and round to nearest even. Subnormal ones: adding 0.5 makes the unit's
    // last place that of the result.
    const std::uint32_t normal =
        (magnitude - 0x38000000U + 0xfffU + ((magnitude >> 13) & 1U)) >> 13;
    const std::uint32_t subnormal =
        std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5F) - 0x3f000000U;
    std::uint32_t result = magnitude < 0x38800000U ? subnormal : normal;
    result = magnitude >= 0x477ff000U ? 0x7c00U : result;
    result = magnitude > 0x7f800000U ? 0x7e00U : result;
    return half{static_cast<std::uint16_t>(sign | result)};
}

}  // namespace kn::cpu
