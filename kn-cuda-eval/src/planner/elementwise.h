// Operations that compute each element from one element of each operand.
#pragma once

#include <kn/graph/ops.h>

namespace kn::cuda {

inline bool is_elementwise(const Operation& operation) {
    return std::holds_alternative<op::Unary>(operation) ||
           std::holds_alternative<op::Binary>(operation) ||
           std::holds_alternative<op::Select>(operation) ||
           std::holds_alternative<op::Cast>(operation);
}

}  // namespace kn::cuda
