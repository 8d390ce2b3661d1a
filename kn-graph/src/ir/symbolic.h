// What is known of the elements of small tensors while a graph is built: sizes as expressions over
// symbols.
//
// Exporters compute shapes with tensors (Shape, Gather, Mul, Concat, ...); these functions follow
// such a chain, also through float detours (Cast, Mul by a scale, Floor, Cast), and give the
// elements as Dims.
#pragma once

#include <optional>
#include <vector>

#include <kn/graph/graph.h>

namespace kn {

/// The elements of an integer or bool tensor in row-major order, each as a Dim where it is known
/// (true is 1). Nothing if the tensor's shape is not static or it has more than 4096 elements.
std::optional<std::vector<std::optional<Dim>>> partial_dims(const Graph& graph, Value value);

/// The same, if every element is known.
std::optional<std::vector<Dim>> known_dims(const Graph& graph, Value value);

/// The elements as numbers, if each is known as a number.
std::optional<Ints> known_ints(const Graph& graph, Value value);

}  // namespace kn
