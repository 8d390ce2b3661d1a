// Element types.
//
//     kn::dtype_of<float>() == kn::DType::F32;   // true
//     kn::size_of(kn::DType::F16) == 2;          // true
//     kn::name_of(kn::DType::I64) == "i64";      // true
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include <kn/graph/export.h>

namespace kn {

/// IEEE binary16 as storage. Arithmetic on it is done in float.
struct half {
    std::uint16_t bits = 0;
    bool operator==(const half&) const = default;
};

/// The upper half of a float (round to nearest even) as storage. Arithmetic on it is done in float.
struct bfloat16 {
    std::uint16_t bits = 0;
    bool operator==(const bfloat16&) const = default;
};

KN_API float to_float(half x);
KN_API float to_float(bfloat16 x);
KN_API half to_half(float x);          ///< rounds to nearest even
KN_API bfloat16 to_bfloat16(float x);  ///< rounds to nearest even

/// Every element type: enumerator, C++ type, text name.
#define KN_DTYPES(X)                \
    X(Bool, bool, "bool")           \
    X(I8, std::int8_t, "i8")        \
    X(I16, std::int16_t, "i16")     \
    X(I32, std::int32_t, "i32")     \
    X(I64, std::int64_t, "i64")     \
    X(U8, std::uint8_t, "u8")       \
    X(U16, std::uint16_t, "u16")    \
    X(U32, std::uint32_t, "u32")    \
    X(U64, std::uint64_t, "u64")    \
    X(F16, ::kn::half, "f16")       \
    X(BF16, ::kn::bfloat16, "bf16") \
    X(F32, float, "f32")            \
    X(F64, double, "f64")

enum class DType : std::uint8_t {
#define X(name, type, text) name,
    KN_DTYPES(X)
#undef X
};

/// The DType of a C++ element type; other types do not compile.
template <class T>
constexpr DType dtype_of();
#define X(name, type, text)            \
    template <>                        \
    constexpr DType dtype_of<type>() { \
        return DType::name;            \
    }
KN_DTYPES(X)
#undef X

KN_API std::size_t size_of(DType dtype);       ///< bytes of one element
KN_API std::string_view name_of(DType dtype);  ///< "f32"
/// The other way round; nothing for other names.
KN_API std::optional<DType> dtype_from_name(std::string_view name);

constexpr bool is_float(DType t) { return t >= DType::F16; }
constexpr bool is_half(DType t) { return t == DType::F16 || t == DType::BF16; }
constexpr bool is_signed_int(DType t) { return t >= DType::I8 && t <= DType::I64; }
constexpr bool is_unsigned_int(DType t) { return t >= DType::U8 && t <= DType::U64; }
constexpr bool is_int(DType t) { return is_signed_int(t) || is_unsigned_int(t); }

}  // namespace kn
