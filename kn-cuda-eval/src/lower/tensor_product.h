// Products and convolutions by a weight in our own kernel for Hopper's tensor cores.
#pragma once

#include "codegen/tensor_product.h"
#include "planner/group.h"
#include "planner/normalized_rows.h"

namespace kn::cuda {

constexpr PlannerRule minimal_filtering_rule = {
    "minimal filtering",
    "3x3 convolutions in F16 with two multiplications for three: F(2,3), where weights allow it"};

/// What the kernel would do behind a product.
struct ProductTail {
    bool residual = false;  ///< it reads another tensor of the product's size
    bool own = false;       ///< more than the libraries' epilogues: bias, residual, relu
};

/// The product that our kernel would do for these, before values have places; without tiles.
TensorProduct expected_product(const Grouping& grouping, Value product, Value end,
                               const ProductTail& tail);

/// TensorProduct::may_filter, before the weights are looked at.
bool may_filter(const PlanOptions& options);

/// What the kernel takes of rows to normalise them.
RowStatistics statistics_of(const NormalizedRows& rows);

/// Why a MatMul or Conv is none for the kernel; nothing if it is. Independent of layouts.
std::optional<std::string> why_no_tensor_product(const Grouping& grouping, Value product);

/// Why it should be none, though it can: where cuBLASLt or cuDNN are better.
std::optional<std::string> why_library_product(const Grouping& grouping, Value product,
                                               const ProductTail& tail);

/// Why the sum of both, two convolutions with what is behind them, is none for one kernel.
std::optional<std::string> why_no_sum(const Grouping& grouping, Value product, Value also);

/// Why the halves of a product's columns should meet in a kernel behind it.
std::optional<std::string> why_two_kernels(const Grouping& grouping, Value product);

}  // namespace kn::cuda
