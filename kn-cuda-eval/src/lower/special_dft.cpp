// Discrete Fourier transforms, in double as on the CPU: in shared memory where they fit.
#include <algorithm>
#include <bit>

#include "lower/special.h"

namespace kn::cuda {

void lower_dft(Placement& placement, const Group& group) {
    const Graph& graph = placement.graph();
    const auto& op = *graph.get_if<op::Dft>(group.anchor);
    const TensorRef x = operand_of(placement, op.x);
    const auto rank = static_cast<std::int64_t>(x.shape.size());
    const std::int64_t length = x.shape[static_cast<std::size_t>(op.axis)];
    const std::int64_t lanes = elements_of(x) / std::max<std::int64_t>(2 * length, 1);
    AxisGroups axes = lanes_along(x.shape.size() - 1, op.axis);
    axes.push_back({rank - 1});

    constexpr std::int64_t kMostShared = 2048;  // 48 KiB with the roots
    const bool power = std::has_single_bit(static_cast<std::uint64_t>(length));
    const auto size = static_cast<std::int64_t>(
        std::bit_ceil(static_cast<std::uint64_t>(power ? length : 2 * length - 1)));
    // A few dozen terms are sums as they stand; longer ones than fit too, for want of better.
    const bool direct = size > kMostShared || length <= 16;

    HandKernel kernel(placement, direct ? "dft_direct" : "dft_block");
    kernel.constant("kLanes", lanes);
    kernel.constant("kLength", length);
    kernel.line("constexpr double kTurn = 6.283185307179586477;");
    kernel.line(std::string("constexpr double kSign = ") + (op.inverse ? "1;" : "-1;"));
    kernel.line("constexpr double kScale = 1.0" +
                (op.inverse ? " / " + std::to_string(length) + ";" : std::string(";")));
    kernel.read("x", x, axes);
    kernel.write("store", placement.stored(group.anchor), axes);
    if (direct) return kernel.add_step(group, "dft", ceil_div(lanes * length, 128), 128);
    const std::int64_t threads = std::clamp<std::int64_t>(size / 4, 32, 256);
    kernel.constant("kSize", size);
    kernel.constant("kThreads", threads);
    kernel.constant("kChirp", power ? 0 : 1);
    const std::int64_t resident = 4 * placement.plan().device.sm_count;
    kernel.add_step(group, "dft", std::clamp<std::int64_t>(lanes, 1, resident),
                    static_cast<unsigned>(threads));
}

}  // namespace kn::cuda
