// The optimizer: named rules that replace parts of a graph by cheaper ones that compute the same,
// up to rounding.
//
//     kn::Graph fast = kn::optimize(graph);
//     kn::Graph some = kn::optimize(graph, {.disabled = {"attention"}});
//     for (const kn::OptimizerRule& rule : kn::optimizer_rules())
//         std::cout << rule.name << ": " << rule.description << "\n";
//
// Inputs, outputs and their names stay. A rule that looks at a constant's elements (a factor of 1,
// an exponent of 2) marks it frozen or makes it vanish; a constant that is computed from others
// remembers how (ConstantData::recipe).
#pragma once

#include <cstddef>
#include <functional>
#include <set>
#include <span>
#include <string>
#include <string_view>

#include <kn/graph/graph.h>

namespace kn {

struct OptimizerRule {
    std::string_view name;
    std::string_view description;
};

/// All rules in the order in which they are tried.
KN_API std::span<const OptimizerRule> optimizer_rules();

struct OptimizeOptions {
    /// Names of rules left out; GraphError if there is no such rule.
    std::set<std::string, std::less<>> disabled = {};
    /// Called for every rewrite with the rule's name and what it replaced, as text.
    std::function<void(std::string_view rule, const std::string& replaced)> trace = {};
    /// A folded constant may be larger than what it is computed from by this many bytes at most
    /// (and by 4 times).
    std::size_t fold_growth = std::size_t{64} << 20;
};

/// The same network with the rules applied until none fits any more, bodies of control flow
/// included. `graph` is left alone; constants are shared.
KN_API Graph optimize(const Graph& graph, const OptimizeOptions& options = {});

struct Optimized {
    Graph graph;
    ValueMap map;  ///< from values of the given graph; those that vanished have no counterpart
};
KN_API Optimized optimize_with_map(const Graph& graph, const OptimizeOptions& options = {});

}  // namespace kn
