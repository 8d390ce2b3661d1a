// Kernels that compute each element of a tensor on its own.
#pragma once

#include <functional>

#include "codegen/emit.h"

namespace kn::cuda {

/// The tensor's axes as they lie in memory, outermost first.
Ints memory_order(const TensorRef& tensor);

/// The variable that holds the element of the tensor at this index.
using ElementText = std::function<std::string(Emitter&, const Index&)>;

/// A kernel that reads along one axis and writes along another, through a tile in shared memory;
/// nothing where most of what is read lies in the order in which it is written. `computed`: what
/// the kernel computes and does not read.
std::optional<KernelDraft> draft_transposed(Placement& placement, const TensorRef& to,
                                            const std::vector<Value>& computed,
                                            const ElementText& element);

}  // namespace kn::cuda
