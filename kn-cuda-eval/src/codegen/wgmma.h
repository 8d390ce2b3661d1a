// The one instruction that kernels for Hopper's tensor cores are built of.
#pragma once

#include <string>

#include <kn/cuda_sys/data_type.h>

namespace kn::cuda {

/// A device function kn_wgmma(sums, a, b, first): sums[columns / 2] of a group of 128 threads +=
/// 64 rows of a times `columns` of b, over 32 bytes of k; without what was there before if `first`.
/// b is the descriptor of a matrix in shared memory; so is a, or the thread's registers of it if
/// `from_registers`. type: F16, BF16, or F32 for TF32.
std::string wgmma_function(DataType type, int columns, bool from_registers);

}  // namespace kn::cuda
