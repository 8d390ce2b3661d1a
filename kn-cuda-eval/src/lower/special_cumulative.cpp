// Running sums and products.
#include <algorithm>

#include "lower/special.h"

namespace kn::cuda {

void lower_cumulative(Placement& placement, const Group& group) {
    const Graph& graph = placement.graph();
    const auto& op = *graph.get_if<op::Cumulative>(group.anchor);
    const TensorRef x = operand_of(placement, op.x);
    const AxisGroups axes = lanes_along(x.shape.size(), op.axis);
    const std::int64_t length = x.shape[static_cast<std::size_t>(op.axis)];
    const std::int64_t lanes = elements_of(x) / std::max<std::int64_t>(length, 1);
    const bool sum = op.op == ReduceOp::Sum;
    // A thread a lane keeps the GPU busy from some thousand lanes on, and short lanes need no help.
    const bool by_thread = length <= 32 || lanes >= 16384;

    HandKernel kernel(placement, by_thread ? "cumulative_lane" : "cumulative_block");
    kernel.type("acc_t", is_int(x.dtype) ? "unsigned long long" : sum_type(x.dtype));
    kernel.constant("kLanes", lanes);
    kernel.constant("kLength", length);
    kernel.constant("kNeutral", sum ? 0 : 1);
    kernel.constant("kExclusive", op.exclusive ? 1 : 0);
    kernel.constant("kReverse", op.reverse ? 1 : 0);
    kernel.function("combine", "acc_t a, acc_t b", sum ? "a + b" : "a * b");
    kernel.read("x", x, axes);
    kernel.write("store", placement.stored(group.anchor), axes);
    if (by_thread)
        kernel.add_step(group, "scan", ceil_div(lanes, 128), 128);
    else
        kernel.add_step(group, "scan", lanes, 256);
}

}  // namespace kn::cuda
