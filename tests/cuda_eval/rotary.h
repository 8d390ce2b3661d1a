// Rotary embeddings as networks have them, out of builder.h.
#pragma once

#include <kn/graph/builder.h>

namespace kn::test {

enum class Rotary {
    Turned,       ///< y cos + [-second half, first half] sin, with cos and sin of whole heads
    Halves,       ///< [first cos - second sin, first sin + second cos] of halves
    Interleaved,  ///< the same of even and odd elements
};

/// Of y [..., head]; cos and sin have as many elements in a row as the form asks for.
inline Var rotate(const Var& y, const Var& cos, const Var& sin, Rotary form) {
    const Dim head = y.shape().dims().back(), half = floor_div(head, 2);
    const bool interleaved = form == Rotary::Interleaved;
    const Var first = interleaved ? slice(y, -1, 0, head, 2) : slice(y, -1, 0, half);
    const Var second = interleaved ? slice(y, -1, 1, head, 2) : slice(y, -1, half, head);
    if (form == Rotary::Turned) return y * cos + concat({-second, first}, -1) * sin;
    const Var a = first * cos - second * sin, b = first * sin + second * cos;
    if (!interleaved) return concat({a, b}, -1);
    return reshape(concat({unsqueeze(a, {-1}), unsqueeze(b, {-1})}, -1), y.shape());
}

/// Elements of cos and sin for heads of this size.
inline std::int64_t table_width(std::int64_t head, Rotary form) {
    return form == Rotary::Turned ? head : head / 2;
}

}  // namespace kn::test
