// Convolutions whose bands and weights fit shared memory, by our kernel for Hopper's tensor cores.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "codegen/conv_bands.h"
#include "planner/placement.h"

namespace kn::cuda {

/// Why a Conv over two axes without groups, whose result is of type `y` behind its epilogue, is none
/// for the kernel; nothing if it is. Independent of layouts.
std::optional<std::string> why_no_conv_bands(const Grouping& grouping, Value conv, DType y);

/// Appends the steps of a group whose roles are "x", "w" and "y", and "banded", which is the same.
void lower_conv_bands(Placement& placement, const Group& group);

/// All tiles that fit a multiprocessor; the best first.
std::vector<BandTiles> sensible_tiles(ConvBands conv, const DeviceProperties& device);
/// Clocks that a model, fitted to measurements on an H200, gives to these tiles.
double clocks_of(const ConvBands& conv, const DeviceProperties& device);

/// "2 groups, 3 bands of 4x56 outputs".
std::string to_string(const BandTiles& tiles);

/// For measurements: tiles that this thread's plans take whatever the model says.
std::optional<BandTiles>& forced_band_tiles();

}  // namespace kn::cuda
