// Lifetimes and places of arena buffers, checked by going through the steps once more.
#include "planner/memory.h"

#include <random>

#include "cuda_eval/plan/support.h"

namespace kn::test {

namespace {

using namespace kn::cuda;

TensorRef whole(std::size_t buffer, std::size_t bytes) {
    return {
        static_cast<std::uint32_t>(buffer), 0, DType::U8, {static_cast<std::int64_t>(bytes)}, {1}};
}

// Each step reads some earlier results and writes a new one; some have scratch memory.
Plan random_plan(unsigned seed) {
    std::mt19937 random(seed);
    Plan plan;
    const auto buffer = [&](Buffer::Kind kind) {
        Buffer b;
        b.kind = kind;
        b.bytes = random() % 5000;
        plan.buffers.push_back(b);
        return plan.buffers.size() - 1;
    };
    std::vector<std::size_t> written = {buffer(Buffer::Kind::Input)};
    const std::size_t steps = 3 + random() % 30;
    for (std::size_t i = 0; i < steps; i++) {
        Step step;
        for (int k = 0; k < 3; k++) {
            const std::size_t b = written[random() % written.size()];
            step.operands.push_back({whole(b, plan.buffers[b].bytes), Access::Read, "x"});
        }
        const auto add = [&](Access access) {
            const std::size_t b = buffer(Buffer::Kind::Arena);
            step.operands.push_back({whole(b, plan.buffers[b].bytes), access, "y"});
            return b;
        };
        if (random() % 3 == 0) add(Access::Scratch);
        written.push_back(add(Access::Write));
        plan.steps.push_back(std::move(step));
    }
    buffer(Buffer::Kind::Arena);  // nobody uses it
    return plan;
}

// By simulation: a byte of the arena belongs to a buffer from its first use to its last one.
void expect_sound(const Plan& plan) {
    const auto touches = [&](std::size_t step, std::size_t buffer) {
        for (const Operand& o : plan.steps[step].operands)
            if (o.tensor.buffer == buffer) return true;
        return false;
    };
    std::size_t peak = 0;
    std::vector<std::pair<std::size_t, std::size_t>> life(plan.buffers.size(), {SIZE_MAX, 0});
    for (std::size_t s = 0; s < plan.steps.size(); s++)
        for (std::size_t b = 0; b < plan.buffers.size(); b++)
            if (touches(s, b)) life[b] = {std::min(life[b].first, s), s};
    for (std::size_t a = 0; a < plan.buffers.size(); a++) {
        const Buffer& x = plan.buffers[a];
        if (x.kind != Buffer::Kind::Arena) continue;
        EXPECT_EQ(life[a], std::pair(x.first_step, x.last_step));
        EXPECT_EQ(x.offset % 256, 0u);
        peak = std::max(peak, x.offset + (x.bytes + 255) / 256 * 256);
        for (std::size_t b = 0; b < a; b++) {
            const Buffer& y = plan.buffers[b];
            if (y.kind != Buffer::Kind::Arena) continue;
            const bool together =
                life[a].first <= life[b].second && life[b].first <= life[a].second;
            const bool apart = x.offset + x.bytes <= y.offset || y.offset + y.bytes <= x.offset;
            EXPECT_TRUE(!together || apart) << "buffers " << b << " and " << a;
        }
    }
    EXPECT_EQ(plan.arena_bytes, peak);
}

TEST(Memory, LiveBuffersNeverOverlap) {
    for (unsigned seed = 0; seed < 200; seed++) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        Plan plan = random_plan(seed);
        plan_memory(plan);
        expect_sound(plan);
    }
}

TEST(Memory, AChainNeedsTwoBuffers) {
    Plan plan;
    for (std::size_t i = 0; i < 10; i++) {
        Buffer b;
        b.bytes = 1024;
        plan.buffers.push_back(b);
        Step step;
        if (i > 0) step.operands.push_back({whole(i - 1, 1024), Access::Read, "x"});
        step.operands.push_back({whole(i, 1024), Access::Write, "y"});
        plan.steps.push_back(std::move(step));
    }
    plan_memory(plan);
    EXPECT_EQ(plan.arena_bytes, 2048u);
}

}  // namespace

}  // namespace kn::test
