// Convolutions over few channels by our kernel for Hopper's tensor cores.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "codegen/few_channels.h"
#include "planner/placement.h"

namespace kn::cuda {

class Code;
class Emitter;

/// Why a Conv is none for the kernel; nothing if it is. Independent of layouts.
std::optional<std::string> why_no_few_channels(const Grouping& grouping, Value conv);

/// The problem that a Conv is.
FewChannels few_channels_of(const Graph& graph, Value conv, const PlanOptions& options);

/// Writes the function `pixel` of few_channels_helpers().
void write_pixel(Emitter& emitter, Code& code, const ProductWindows& windows, Value image);

/// What the step of such a group computes.
void count_flops(const Graph& graph, const Group& group, const FewChannels& conv, Step& step);

/// Appends the step of a group whose roles are "image", "w" and "y".
void lower_few_channels(Placement& placement, const Group& group);

/// All tiles that fit a multiprocessor; the best first.
std::vector<FewChannelTiles> sensible_tiles(FewChannels conv, const DeviceProperties& device);
/// Clocks that a model, fitted to 25 measurements on an H200, gives to these tiles.
double clocks_of(const FewChannels& conv, const DeviceProperties& device);

/// "2 groups, 2 blocks, 2 bands of 1x14 patches, 64 filters".
std::string to_string(const FewChannelTiles& tiles);

/// For measurements: tiles that this thread's plans take whatever the model says.
std::optional<FewChannelTiles>& forced_few_channel_tiles();

}  // namespace kn::cuda
