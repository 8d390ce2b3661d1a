#include "executor/strided.h"

#include <cstdint>

#include <kn/graph/error.h>

namespace kn::cuda {

namespace {

// One axis at a time by an odometer; the innermost is a loop.
template <class T>
void gather(const T* source, T* target, const Ints& shape, const Ints& strides) {
    const std::size_t rank = shape.size();
    std::int64_t rows = 1;
    for (std::size_t i = 0; i + 1 < rank; i++) rows *= shape[i];
    const std::int64_t inner = rank ? shape[rank - 1] : 1, step = rank ? strides[rank - 1] : 1;
    if (inner == 0) return;
    Ints at(rank, 0);
    for (std::int64_t row = 0; row < rows; row++) {
        for (std::int64_t i = 0; i < inner; i++) *target++ = source[i * step];
        for (std::size_t axis = rank; axis-- > 1;) {
            source += strides[axis - 1];
            if (++at[axis - 1] < shape[axis - 1]) break;
            source -= strides[axis - 1] * shape[axis - 1];
            at[axis - 1] = 0;
        }
    }
}

}  // namespace

void gather_strided(const std::byte* source, std::byte* target, std::size_t element_bytes,
                    const Ints& shape, const Ints& strides) {
    KN_CHECK(shape.size() == strides.size());
    const auto as = [&]<class T>(T) {
        gather(reinterpret_cast<const T*>(source), reinterpret_cast<T*>(target), shape, strides);
    };
    switch (element_bytes) {
        case 1:
            return as(std::uint8_t());
        case 2:
            return as(std::uint16_t());
        case 4:
            return as(std::uint32_t());
        case 8:
            return as(std::uint64_t());
    }
    KN_CHECK(false, std::to_string(element_bytes) + " bytes an element");
}

}  // namespace kn::cuda
