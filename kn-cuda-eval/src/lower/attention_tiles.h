// How attention on the tensor cores is cut into tiles.
#pragma once

#include <string>
#include <vector>

#include "codegen/attention_tensor.h"

namespace kn::cuda {

/// The tiles with the least time by a model of the multiprocessor.
AttentionTiles choose_tiles(const TensorAttention& attention, int sm_count);

/// About how many clocks it takes in these tiles.
double clocks_of(const TensorAttention& attention, const AttentionTiles& tiles, int sm_count);

/// All that are worth a try, with as many stages as shared memory holds.
std::vector<AttentionTiles> sensible_tiles(const TensorAttention& attention, int sm_count);

/// "3 x 64 queries, 64 keys, 8 stages, ahead".
std::string to_string(const AttentionTiles& tiles);

/// For measurements: tiles that this thread's plans take whatever the model says.
std::optional<AttentionTiles>& forced_attention_tiles();

}  // namespace kn::cuda
