// infer: the types of an operation's results, and the check that its operands and attributes are
// right.
//
//     std::vector<Type> types = infer(op::Softmax{x, 1, false}, graph);
//
// Graph::add calls it before the node is appended, with operands that belong to the graph; it puts
// the operation's name and origin before the message. What cannot be proved of symbolic dims is
// recorded in the graph as a constraint; what is known to be wrong throws GraphError with the
// numbers.
#pragma once

#include <vector>

#include <kn/graph/graph.h>

namespace kn {

#define X(name) std::vector<Type> infer(const op::name& op, Graph& graph);
KN_OPERATIONS(X)
#undef X

}  // namespace kn
