// The epilogue of a product whose columns meet in pairs behind it (planner/paired_columns.h).
#pragma once

#include <string>
#include <vector>

#include "codegen/emit.h"
#include "codegen/tensor_product.h"

namespace kn::cuda {

/// Columns that are written together; parts are whole numbers of them.
constexpr std::int64_t paired_panel = 64;

/// Where a result lies, if not where it is stored.
struct PairedCopy {
    TensorRef from;
    Value to;
};

/// The kernel's body around kn_product(factors, ...) of a product with a partner
/// (codegen/tensor_product.h), which writes the ends of Group::paired, each as rows of a matrix; and
/// which of them have to be copied.
std::vector<PairedCopy> write_paired(Placement& placement, const Group& group,
                                     const TensorProduct& product, const std::string& factors,
                                     KernelDraft& draft);

}  // namespace kn::cuda
