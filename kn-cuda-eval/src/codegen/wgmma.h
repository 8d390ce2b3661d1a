// The tensor cores' instruction of Hopper as a function of a kernel.
#pragma once

#include <string>

#include <kn/cuda_sys/data_type.h>

namespace kn::cuda {

struct Wgmma {
    std::string name = "kn_wgmma";
    DataType type = DataType::F16;   ///< F16, BF16; F32: its TF32 part counts
    int columns = 0;                 ///< a multiple of 8
    bool rows_in_registers = false;  ///< a is unsigned (&)[4] instead of a matrix in shared memory
    bool columns_dense = false;      ///< in memory, b's columns are neighbours in k's stead
    bool adds = false;               ///< always, so that there is no `first`
};

/// `NAME(sums, a, b, first)`: float (&sums)[columns / 2] += a b for 64 rows of a warp group and 32
/// bytes of k, or = a b where `first`; a and b as kn_matrix gives them.
std::string wgmma_function(const Wgmma& wgmma);

}  // namespace kn::cuda
