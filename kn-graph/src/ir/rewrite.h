// Copying nodes from one graph into another with symbols replaced.
#pragma once

#include <kn/graph/graph.h>

namespace kn {

using SymbolMap = std::map<std::string, Dim>;

/// The operation with symbols replaced in every size, type and body; operands are left alone.
Operation substitute(const Operation& operation, const SymbolMap& symbols);

/// A body (or any closed graph) with symbols replaced; the graph itself if nothing changes.
std::shared_ptr<const Graph> substitute(const std::shared_ptr<const Graph>& body,
                                        const SymbolMap& symbols);

/// Copies all live nodes of `source` that `map` does not know yet into `target`, and the
/// constraints.
void copy_live(Graph& target, const Graph& source, ValueMap& map, const SymbolMap& symbols);

}  // namespace kn
