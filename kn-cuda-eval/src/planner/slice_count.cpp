#include "planner/slice_count.h"

#include <algorithm>

#include <fmt/core.h>

#include "planner/batch_axes.h"
#include "planner/roofline.h"

namespace kn::cuda {

namespace {

constexpr std::int64_t most_slices = 16;
constexpr double heavy_share = 0.5;    ///< of the time, for slices to be worth it
constexpr double weights_share = 0.1;  ///< of all bytes moved, that slices may read again
constexpr double worth = 0.98;         ///< of the time of the whole: what slices may take

// By what an H200 took for the boards of a residual tower of 256 channels in F16 (ms): 1024 5.43
// in 1 slice, 5.16 in 2, 5.28 in 4, 6.3 in 8; 512, whose steps fit L2, 2.50 and in 2 slices 2.64. In
// TF32 1024 took 10.77, and 11.09 in 4 slices.
constexpr double between_steps = 0.8;  ///< us from a step's end to the next one's beginning
/// Of the time that the memory needs for data beyond L2: what arithmetic does not hide.
constexpr double exposed = 0.5;

/// Of a step.
struct Bytes {
    double weights = 0, activations = 0;
    double sum() const { return weights + activations; }
};

Bytes bytes_of(const Plan& plan, const Step& step) {
    Step weights;
    std::ranges::copy_if(step.operands, std::back_inserter(weights.operands),
                         [&](const Operand& operand) {
                             const Buffer& buffer = plan.buffers[operand.tensor.buffer];
                             return buffer.kind == Buffer::Kind::Constant;
                         });
    const auto constant = static_cast<double>(weights.bytes());
    return {constant, static_cast<double>(step.bytes()) - constant};
}

/// A plan's time by the models of its products, else by the roofline, and what exceeds L2.
struct Estimate {
    double us = 0;
    double heavy_us = 0;  ///< of products of half types in tiles whose data exceed L2
    double wide_us = 0;   ///< of others
    double bytes = 0;
    Bytes most;  ///< of such a product
};

Estimate estimate(const Plan& plan) {
    const auto l2 = static_cast<double>(plan.device.l2_bytes);
    Estimate out;
    for (const Step& step : plan.steps) {
        const Bytes bytes = bytes_of(plan, step);
        const bool heavy = bytes.sum() > l2;
        double us = between_steps + std::max(step.expected_us, roofline_us(step, plan.device));
        if (heavy) us += exposed * 1e6 * bytes.sum() / memory_rate(plan.device);
        out.us += us;
        out.bytes += bytes.sum();
        if (!heavy || step.expected_us == 0) continue;
        if (!is_half(step.operands.front().tensor.dtype)) {
            out.wide_us += us;
            continue;
        }
        out.heavy_us += us;
        out.most.weights = std::max(out.most.weights, bytes.weights);
        out.most.activations = std::max(out.most.activations, bytes.activations);
    }
    return out;
}

std::int64_t fewest_that_fit(std::int64_t rows, const Bytes& bytes, double room) {
    for (std::int64_t count = 2; count <= std::min(rows, most_slices); count++)
        if (rows % count == 0 &&
            bytes.weights + bytes.activations / static_cast<double>(count) <= room)
            return count;
    return 1;
}

}  // namespace

SliceChoice choose_slices(const Plan& whole,
                          const std::function<const Plan&(std::int64_t)>& in_slices) {
    const auto l2 = static_cast<double>(whole.device.l2_bytes);
    const Estimate one = estimate(whole);
    if (one.heavy_us == 0 && one.wide_us == 0) return {};
    if (one.wide_us > one.heavy_us)
        return {1, "products of float32 take longer in slices, even where L2 holds their data"};
    if (one.heavy_us < heavy_share * one.us)
        return {1, fmt::format("products whose data exceed the L2 cache of {:.0f} MB take {:.0f} "
                               "of {:.0f} us",
                               l2 / 1e6, one.heavy_us, one.us)};
    const BatchAxes batch = batch_axes(*whole.graph);
    if (!batch.why_not.empty()) return {1, batch.why_not};
    const std::int64_t count = fewest_that_fit(batch.rows, one.most, l2);
    if (count == 1)
        return {1, fmt::format("no slices of one size, up to {} of {} rows, bring the {:.0f} MB "
                               "of a product into the L2 cache of {:.0f} MB",
                               most_slices, batch.rows, one.most.sum() / 1e6, l2 / 1e6)};
    const auto again = static_cast<double>(count - 1) * static_cast<double>(whole.constant_bytes);
    if (again > weights_share * one.bytes)
        return {1, fmt::format("{} slices would read {:.0f} MB of weights again, beside {:.0f} MB "
                               "that the steps move",
                               count, again / 1e6, one.bytes / 1e6)};
    const Estimate several = estimate(in_slices(count));
    const std::string reason = fmt::format(
        "a product's {:.0f} MB exceed the L2 cache of {:.0f} MB; {:.0f} us are "
        "expected, and {:.0f} in {} slices of {} rows",
        one.most.sum() / 1e6, l2 / 1e6, one.us, several.us, count, batch.rows / count);
    return {several.us < worth * one.us ? count : 1, reason};
}

}  // namespace kn::cuda
