// Convolutions over few channels with the max pool behind them, by our kernel for Hopper's tensor
// cores.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "codegen/few_channels_pool.h"
#include "planner/placement.h"

namespace kn::cuda {

/// Why a Conv, whose result goes to `pool` by way of a value of type `y`, is none for the kernel;
/// nothing if it is. Independent of layouts.
std::optional<std::string> why_no_few_channels_pool(const Grouping& grouping, Value conv,
                                                    const PoolWindows& pool, DType y);

/// Appends the steps of a group whose roles are "image", "w", "pooled" and "y"; its max pool is
/// `max_pool_of` its output.
void lower_few_channels_pool(Placement& placement, const Group& group);

/// What a max pool over the last two axes of a value of four reduces.
struct MaxPool {
    Value x;
    PoolWindows windows;
    std::vector<Value> between;  ///< x and the end, these left out
};
std::optional<MaxPool> max_pool_of(const Graph& graph, Value end);

/// All tiles that fit a multiprocessor; the best first.
std::vector<FewChannelPoolTiles> sensible_tiles(FewChannelsPool conv,
                                                const DeviceProperties& device);
/// Clocks that a model, fitted to a dozen measurements on an H200, gives to these tiles.
double clocks_of(const FewChannelsPool& conv, const DeviceProperties& device);

/// "2 groups, 2 bands of 8x112 outputs, segments of 28 rows".
std::string to_string(const FewChannelPoolTiles& tiles);

/// For measurements: tiles that this thread's plans take whatever the model says.
std::optional<FewChannelPoolTiles>& forced_few_channel_pool_tiles();

}  // namespace kn::cuda
