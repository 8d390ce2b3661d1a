// Results of a convolution that a kernel of ours makes one by one and writes 16 bytes of channels at
// a time.
#pragma once

#include <string>

#include "codegen/emit.h"

namespace kn::cuda {

/// y, or in its place a tensor like it with channels innermost, of this name, that is to be copied.
TensorRef channels_innermost(Placement& placement, const TensorRef& y, const std::string& name);

/// Writes the functions of a convolution's kernel: finish(image, filter, row, column, product)
/// gives `end` where the group's anchor is `product`; give(image, filter, row, column, chunk)
/// writes 16 bytes of y, of filters from `filter` on.
void write_finish_and_give(Placement& placement, const Group& group, Value end,
                           KernelOperands& operands, Emitter& emitter, Code& code,
                           const TensorRef& y);

}  // namespace kn::cuda
