// What is worth bytes of its own: values that several kernels would compute again.
#pragma once

#include "planner/group.h"

namespace kn::cuda {

/// Whether a kernel reads the value from memory: it is stored, or will be when its turn comes.
bool ends_kernel(const Grouping& grouping, Value value);

/// Stores the value if computing it wherever it is read costs more than memory does.
void store_shared(Grouping& grouping, Value value);

/// Stores parts of the expression below a stored value until one kernel can hold it: its operands
/// and its text have limits.
void limit_expression(Grouping& grouping, Value root);

}  // namespace kn::cuda
