#include "executor/strided.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include <kn/graph/error.h>

#include "executor/transpose.h"

namespace kn::cuda {

namespace {

// A plane of the copy, in blocks that stay in the first-level cache: along `inner` the target is
// dense, along `outer` the source may be.
struct Plane {
    std::int64_t outer, outer_from, outer_to;
    std::int64_t inner, inner_from, inner_to;
};

template <class T>
void copy_plane(const T* source, T* target, const Plane& p) {
    constexpr std::int64_t block = 32;
    if (p.inner_from == 1 && p.inner_to == 1) {
        for (std::int64_t i = 0; i < p.outer; i++)
            std::memcpy(target + i * p.outer_to, source + i * p.outer_from,
                        static_cast<std::size_t>(p.inner) * sizeof(T));
        return;
    }
    if (p.outer_from == 1 && p.inner_to == 1)
        return transpose(source, p.inner_from, target, p.outer_to, p.outer, p.inner);
    for (std::int64_t i0 = 0; i0 < p.outer; i0 += block)
        for (std::int64_t k0 = 0; k0 < p.inner; k0 += block)
            for (std::int64_t i = i0; i < std::min(p.outer, i0 + block); i++)
                for (std::int64_t k = k0; k < std::min(p.inner, k0 + block); k++)
                    target[i * p.outer_to + k * p.inner_to] =
                        source[i * p.outer_from + k * p.inner_from];
}

// The axis next to which source elements lie, to go with the innermost one; the one before it if
// there is none such.
std::size_t companion(const CopyAxes& axes) {
    const auto dense = std::ranges::find(axes.from, 1);
    const auto at = static_cast<std::size_t>(dense - axes.from.begin());
    return at + 1 < axes.shape.size() ? at : axes.shape.size() - 2;
}

template <class T>
void copy(const T* source, T* target, CopyAxes axes) {
    while (axes.shape.size() < 2) {
        axes.shape.insert(axes.shape.begin(), 1);
        axes.from.insert(axes.from.begin(), 0);
        axes.to.insert(axes.to.begin(), 0);
    }
    const std::size_t inner = axes.shape.size() - 1, outer = companion(axes);
    const Plane plane{axes.shape[outer], axes.from[outer], axes.to[outer],
                      axes.shape[inner], axes.from[inner], axes.to[inner]};
    axes.shape[inner] = axes.shape[outer] = 1;
    // The other axes by an odometer.
    Ints at(axes.shape.size(), 0);
    while (true) {
        copy_plane(source, target, plane);
        std::size_t axis = axes.shape.size();
        while (axis-- > 0) {
            source += axes.from[axis];
            target += axes.to[axis];
            if (++at[axis] < axes.shape[axis]) break;
            source -= axes.from[axis] * axes.shape[axis];
            target -= axes.to[axis] * axes.shape[axis];
            at[axis] = 0;
            if (axis == 0) return;
        }
    }
}

}  // namespace

Ints row_major_strides(const Ints& shape) {
    Ints strides(shape.size(), 1);
    for (std::size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
    return strides;
}

CopyAxes merge_axes(const Ints& shape, const Ints& from, const Ints& to) {
    CopyAxes axes;
    for (std::size_t i = 0; i < shape.size(); i++) {
        if (shape[i] == 1) continue;
        if (!axes.shape.empty() && axes.from.back() == from[i] * shape[i] &&
            axes.to.back() == to[i] * shape[i]) {
            axes.shape.back() *= shape[i];
            axes.from.back() = from[i];
            axes.to.back() = to[i];
            continue;
        }
        axes.shape.push_back(shape[i]);
        axes.from.push_back(from[i]);
        axes.to.push_back(to[i]);
    }
    return axes;
}

void copy_elements(const std::byte* source, const Ints& from, std::byte* target, const Ints& to,
                   std::size_t element_bytes, const Ints& shape) {
    KN_CHECK(shape.size() == from.size() && shape.size() == to.size());
    if (std::ranges::count(shape, 0) > 0) return;
    const CopyAxes axes = merge_axes(shape, from, to);
    const auto as = [&]<class T>(T) {
        copy(reinterpret_cast<const T*>(source), reinterpret_cast<T*>(target), axes);
    };
    switch (element_bytes) {
        case 1: return as(std::uint8_t());
        case 2: return as(std::uint16_t());
        case 4: return as(std::uint32_t());
        case 8: return as(std::uint64_t());
    }
    KN_CHECK(false, std::to_string(element_bytes) + " bytes an element");
}

void gather_strided(const std::byte* source, std::byte* target, std::size_t element_bytes,
                    const Ints& shape, const Ints& strides) {
    copy_elements(source, strides, target, row_major_strides(shape), element_bytes, shape);
}

}  // namespace kn::cuda
