// How a product on the tensor cores is cut into tiles.
#pragma once

#include <string>
#include <vector>

#include <kn/cuda_eval/plan.h>
#include <kn/cuda_sys/device_properties.h>

#include "codegen/tensor_product.h"

namespace kn::cuda {

/// The tiles that the options ask for; by default those with the least time by clocks_of.
ProductTiles choose_tiles(const TensorProduct& product, const DeviceProperties& device,
                          bool can_be_staged, const PlanOptions& options = {});

/// PlanOptions::tiles_of's key: what the choice depends on.
std::string problem_of(const TensorProduct& product, bool can_be_staged);

/// Clocks by a model of the multiprocessor: products, shared memory and L2 traffic overlap, blocks
/// come in rounds, a block that is alone on its multiprocessor hides nothing of its start and end,
/// and memory has a rate.
double clocks_of(const TensorProduct& product, const ProductTiles& tiles,
                 const DeviceProperties& device);
constexpr double clocks_in_us = 1650;

/// All that are worth a try, with as many stages as shared memory holds.
std::vector<ProductTiles> sensible_tiles(const TensorProduct& product,
                                         const DeviceProperties& device, bool staged);

/// "128x256 in pairs 4 stages".
std::string to_string(const ProductTiles& tiles);

/// For measurements: tiles that this thread's plans take whatever the model says.
std::optional<ProductTiles>& forced_tiles();

}  // namespace kn::cuda
