// Composite operations out of simpler ones: what they mean, and how a back end without a kernel of
// its own runs them.
//
//     kn::Graph plain = kn::decompose(graph);  // no composite is left
//     plain = kn::decompose(graph, [](const kn::Operation& operation) {
//         return std::holds_alternative<kn::op::Norm>(operation);
//     });
//
// Composites are Softmax, Norm, Attention, Resize, GridSample, Recurrent (a Loop) and Dft (a matrix
// product). Both forms agree to rounding; of half types the arithmetic inside is float32.
#pragma once

#include <functional>

#include <kn/graph/graph.h>

namespace kn {

KN_API bool is_composite(const Operation& operation);

/// Adds the simpler operations to `graph`, whose values the operands are, and gives the results in
/// the operation's order. Throws GraphError if the operation is no composite, or if it is a Resize
/// or Dft along a dim that is not a number yet (bind it first).
KN_API std::vector<Value> decompose(Graph& graph, const Operation& operation);

/// The graph with the composites that `which` chooses decomposed, in bodies too. Throws as above.
KN_API Graph decompose(const Graph& graph,
                       const std::function<bool(const Operation&)>& which = is_composite);

}  // namespace kn
