#include "planner/memory.h"

#include <algorithm>
#include <numeric>

namespace kn::cuda {

namespace {

// Buffers nobody uses go; numbers in operands, ports and stored values follow.
void drop_unused(Plan& plan) {
    std::vector<bool> used(plan.buffers.size());
    for (std::size_t i = 0; i < plan.buffers.size(); i++) {
        const auto kind = plan.buffers[i].kind;
        used[i] = kind == Buffer::Kind::Input || kind == Buffer::Kind::Output;
    }
    for (const Step& step : plan.steps)
        for (const Operand& operand : step.operands) used[operand.tensor.buffer] = true;

    std::vector<Buffer> buffers;
    std::vector<PlanConstant> constants;
    std::vector<std::uint32_t> number(plan.buffers.size());
    for (std::size_t i = 0; i < plan.buffers.size(); i++) {
        if (!used[i]) continue;
        number[i] = static_cast<std::uint32_t>(buffers.size());
        buffers.push_back(std::move(plan.buffers[i]));
        Buffer& buffer = buffers.back();
        if (buffer.kind != Buffer::Kind::Constant) continue;
        constants.push_back(std::move(plan.constants[buffer.index]));
        buffer.index = constants.size() - 1;
    }
    std::erase_if(plan.stored, [&](const auto& s) { return !used[s.second.buffer]; });
    const auto renumber = [&](TensorRef& ref) { ref.buffer = number[ref.buffer]; };
    for (Step& step : plan.steps)
        for (Operand& operand : step.operands) renumber(operand.tensor);
    for (auto& [value, ref] : plan.stored) renumber(ref);
    for (TensorRef& ref : plan.inputs) renumber(ref);
    for (TensorRef& ref : plan.outputs) renumber(ref);
    plan.buffers = std::move(buffers);
    plan.constants = std::move(constants);
}

void set_lifetimes(Plan& plan) {
    std::vector<bool> seen(plan.buffers.size());
    for (std::size_t i = 0; i < plan.steps.size(); i++)
        for (const Operand& operand : plan.steps[i].operands) {
            Buffer& buffer = plan.buffers[operand.tensor.buffer];
            if (!seen[operand.tensor.buffer]) buffer.first_step = i;
            seen[operand.tensor.buffer] = true;
            buffer.last_step = i;
        }
}

// The largest first, each at the lowest place free during its lifetime that it fits best.
void set_offsets(Plan& plan) {
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < plan.buffers.size(); i++)
        if (plan.buffers[i].kind == Buffer::Kind::Arena) order.push_back(i);
    const auto rounded = [&](std::size_t i) {
        return (plan.buffers[i].bytes + arena_alignment - 1) / arena_alignment * arena_alignment;
    };
    std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) {
        const Buffer &x = plan.buffers[a], &y = plan.buffers[b];
        if (rounded(a) != rounded(b)) return rounded(a) > rounded(b);
        return x.last_step - x.first_step > y.last_step - y.first_step;
    });
    std::vector<std::size_t> placed;  // by offset
    for (const std::size_t i : order) {
        Buffer& buffer = plan.buffers[i];
        std::size_t end = 0, best = SIZE_MAX, best_gap = SIZE_MAX;
        for (const std::size_t j : placed) {
            const Buffer& other = plan.buffers[j];
            if (other.last_step < buffer.first_step || other.first_step > buffer.last_step)
                continue;
            if (other.offset > end && other.offset - end >= rounded(i) &&
                other.offset - end < best_gap) {
                best = end;
                best_gap = other.offset - end;
            }
            end = std::max(end, other.offset + rounded(j));
        }
        buffer.offset = best == SIZE_MAX ? end : best;
        plan.arena_bytes = std::max(plan.arena_bytes, buffer.offset + rounded(i));
        const auto at = std::ranges::upper_bound(
            placed, buffer.offset, {}, [&](std::size_t j) { return plan.buffers[j].offset; });
        placed.insert(at, i);
    }
}

}  // namespace

void plan_memory(Plan& plan) {
    drop_unused(plan);
    set_lifetimes(plan);
    plan.arena_bytes = 0;
    set_offsets(plan);
    plan.constant_bytes = 0;
    for (const Buffer& buffer : plan.buffers)
        if (buffer.kind == Buffer::Kind::Constant) plan.constant_bytes += buffer.bytes;
}

}  // namespace kn::cuda
