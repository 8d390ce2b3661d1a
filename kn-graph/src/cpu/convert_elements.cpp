#include <kn/graph/convert.h>

#include "cpu/half_by_f16c.h"
#include "cpu/simd.h"
#include "ir/convert.h"

namespace kn {

namespace {

template <class To, class From>
void convert_plainly(const From* __restrict in, To* __restrict out, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) out[i] = detail::convert<To>(in[i]);
}

template <class To, class From>
void convert_quickly(const From* in, To* out, std::size_t count) {
    if constexpr (std::is_same_v<From, half> || std::is_same_v<To, half>) {
        const std::size_t done = cpu::convert_by_f16c(in, out, count);
        in += done;
        out += done;
        count -= done;
    }
    cpu::simd([=] { convert_plainly(in, out, count); });
}

template <class To, class From>
constexpr bool is_quick = (std::is_same_v<From, float> && detail::is_half_type<To>) ||
                          (detail::is_half_type<From> && std::is_same_v<To, float>);

}  // namespace

void convert_elements(DType from, const void* source, DType to, void* target, std::size_t count) {
    detail::with_type(from, [&]<class From>(From) {
        detail::with_type(to, [&]<class To>(To) {
            const auto* const in = static_cast<const From*>(source);
            auto* const out = static_cast<To*>(target);
            if constexpr (is_quick<To, From>)
                convert_quickly(in, out, count);
            else
                convert_plainly(in, out, count);
        });
    });
}

}  // namespace kn
