// What the builder's functions share.
#pragma once

#include <fmt/core.h>

#include <kn/graph/builder.h>

namespace kn::builder {

inline Var add(Var like, Operation operation) {
    return like.graph->var(like.graph->add(std::move(operation)));
}

inline void check_same_graph(Var a, Var b) {
    if (a.graph != b.graph) throw GraphError("the operands belong to different graphs");
}

/// Shape with `count` leading dims of 1.
inline Shape with_leading_ones(const Shape& shape, std::size_t count) {
    std::vector<Dim> dims(count, Dim(1));
    dims.insert(dims.end(), shape.begin(), shape.end());
    return Shape(std::move(dims));
}

/// x with 1s put before its dims until it has `rank` of them.
inline Var to_rank(Var x, std::size_t rank) {
    const std::size_t have = x.rank();
    if (have >= rank) return x;
    return reshape(x, with_leading_ones(x.shape(), rank - have));
}

/// Axes as 0..rank-1, sorted; throws GraphError if one comes twice.
Ints sorted_axes(const Ints& axes, std::size_t rank);

/// A vector [C] as [1, C, 1, ...], to go with a tensor of `rank` dims whose axis 1 is the channel.
inline Var as_channels(Var x, std::size_t rank) {
    std::vector<Dim> dims(rank, Dim(1));
    dims[1] = x.shape().size();
    return reshape(x, Shape(std::move(dims)));
}

}  // namespace kn::builder
