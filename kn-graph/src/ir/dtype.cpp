#include <kn/graph/dtype.h>

#include "ir/convert.h"

namespace kn {

float to_float(half x) { return detail::widen(x); }
float to_float(bfloat16 x) { return detail::widen(x); }
half to_half(float x) { return detail::narrow<half>(x); }
bfloat16 to_bfloat16(float x) { return detail::narrow<bfloat16>(x); }

std::size_t size_of(DType dtype) {
    constexpr std::size_t sizes[] = {
#define X(name, type, text) sizeof(type),
        KN_DTYPES(X)
#undef X
    };
    return sizes[static_cast<std::size_t>(dtype)];
}

std::string_view name_of(DType dtype) {
    constexpr std::string_view names[] = {
#define X(name, type, text) text,
        KN_DTYPES(X)
#undef X
    };
    return names[static_cast<std::size_t>(dtype)];
}

std::optional<DType> dtype_from_name(std::string_view name) {
#define X(enumerator, type, text) \
    if (name == text) return DType::enumerator;
    KN_DTYPES(X)
#undef X
    return std::nullopt;
}

}  // namespace kn
