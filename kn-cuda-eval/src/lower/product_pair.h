// Two products by weights behind each other in one kernel, for Hopper's tensor cores.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "codegen/product_pair.h"
#include "planner/group.h"

namespace kn::cuda {

/// A MatMul or Conv, and what is computed from it element by element.
struct PairedProduct {
    Value product;
    Value end;
    std::optional<Value> also = {};  ///< another product, whose result is added to this one's
    bool residual = false;           ///< it reads another tensor of the end's size
    /// What makes that: another convolution, which the first one's own kernel could add up with it.
    std::optional<Value> summand = {};
};

/// Whether a MatMul or Conv makes a row of its result from each row of what it multiplies.
bool keeps_rows(const Graph& graph, Value product);

/// Why these are no pair, the second one's rows being the end of the first; or why they would not
/// be faster than two kernels. `keep`: the first one's end is wanted elsewhere, too.
std::optional<std::string> why_no_pair(const Grouping& grouping, const PairedProduct& first,
                                       const PairedProduct& second, bool keep);

/// All that are worth a try on the device, the most promising first.
std::vector<PairTiles> sensible_tiles(const ProductPair& pair, const DeviceProperties& device);

/// For measurements: tiles that this thread's plans take for pairs, faster or not.
std::optional<PairTiles>& forced_pair_tiles();

}  // namespace kn::cuda
