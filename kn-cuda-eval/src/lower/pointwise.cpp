// One thread computes one element, or some neighbouring ones, of each output.
#include <algorithm>
#include <iterator>
#include <numeric>

#include <fmt/core.h>

#include "lower/elements.h"
#include "lower/lower.h"
#include "planner/ceil_div.h"

namespace kn::cuda {

Ints memory_order(const TensorRef& tensor) {
    Ints order(tensor.shape.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
        return std::abs(tensor.strides[static_cast<std::size_t>(a)]) >
               std::abs(tensor.strides[static_cast<std::size_t>(b)]);
    });
    return order;
}

namespace {

constexpr std::int64_t kThreads = 256;

/// The index of element number `number` in memory order.
Index index_of(IndexMath& math, const std::string& number, const TensorRef& tensor) {
    const Ints order = memory_order(tensor);
    Ints extents;
    for (const std::int64_t axis : order)
        extents.push_back(tensor.shape[static_cast<std::size_t>(axis)]);
    const Index digits = math.split(number, extents);
    Index index(order.size());
    for (std::size_t i = 0; i < order.size(); ++i)
        index[static_cast<std::size_t>(order[i])] = digits[i];
    return index;
}

/// A kernel whose blocks compute one part of it after the other: `body` of `count` elements each.
class PartsKernel {
  public:
    PartsKernel(Placement& placement, std::string name, std::size_t parts)
        : placement_(placement), several_(parts > 1) {
        draft_.name = std::move(name);
        draft_.block = {static_cast<unsigned>(kThreads)};
    }

    /// `lanes` elements a thread.
    template <class Body>
    void add(std::int64_t count, int lanes, const Body& body) {
        const std::int64_t threads = count / lanes, end = blocks_ + ceil_div(threads, kThreads);
        if (several_)
            code_.open(fmt::format("if ({}blockIdx.x < {})",
                                   blocks_ > 0 ? fmt::format("blockIdx.x >= {} && ", blocks_) : "",
                                   end));
        Emitter emitter(placement_, code_, draft_.operands);
        emitter.set_lanes(lanes);
        if (several_) emitter.push_scope();
        const std::string block =
            blocks_ > 0 ? fmt::format("(blockIdx.x - {})", blocks_) : "blockIdx.x";
        code_.line(fmt::format("const {0} t = ({0}){1} * {2} + threadIdx.x;", emitter.math().type(),
                               block, kThreads));
        if (threads % kThreads != 0) code_.line(fmt::format("if (t >= {}) return;", threads));
        if (threads == 1) code_.line("(void)t;");
        std::string number = emitter.math().variable("t", threads);
        if (lanes > 1) number = emitter.math().add(emitter.math().mul(number, lanes), "j");
        body(emitter, number);
        if (several_) {
            emitter.pop_scope();
            code_.close();
        }
        blocks_ = end;
    }

    KernelDraft finish() {
        draft_.body = code_.text();
        draft_.grid = {static_cast<unsigned>(blocks_)};
        return std::move(draft_);
    }

  private:
    Placement& placement_;
    bool several_;
    std::int64_t blocks_ = 0;
    Code code_;
    KernelDraft draft_;
};

std::int64_t elements_of(const Placement& placement, const Group& group) {
    return checked_size(placement.stored(group.outputs.at(0)).shape);
}

// Enough threads to fill the device are worth more than wide accesses.
int lanes_of(Placement& placement, const Group& group) {
    const std::int64_t count = elements_of(placement, group);
    int lanes = 8;
    for (const Value& output : group.outputs) {
        const TensorRef& tensor = placement.stored(output);
        KN_CHECK(checked_size(tensor.shape) == count, "outputs of different sizes in one step");
        lanes = std::min(lanes, static_cast<int>(16 / size_of(tensor.dtype)));
    }
    const std::int64_t fewest = std::int64_t{placement.plan().device.sm_count} * 512;
    while (lanes > 1 && (count % lanes != 0 || count / lanes < fewest)) lanes /= 2;
    return lanes;
}

std::optional<KernelDraft> transposed(Placement& placement, const Group& group) {
    if (group.outputs.size() > 1) return std::nullopt;
    return draft_transposed(placement, placement.stored(group.outputs[0]), group.outputs,
                            [&](Emitter& emitter, const Index& index) {
                                return emitter.value(group.outputs[0], index);
                            });
}

void add_part(PartsKernel& kernel, Placement& placement, const Group& group) {
    kernel.add(elements_of(placement, group), lanes_of(placement, group),
               [&](Emitter& emitter, const std::string& number) {
                   emitter.computes(group.outputs);
                   for (const Value& output : group.outputs) {
                       const Index index =
                           index_of(emitter.math(), number, placement.stored(output));
                       emitter.store(output, index, emitter.value(output, index));
                   }
               });
}

}  // namespace

void lower_pointwise(Placement& placement, const Group& group) {
    lower_siblings(placement, {&group, 1});
}

void lower_siblings(Placement& placement, std::span<const Group> groups) {
    std::vector<const Group*> together;
    for (const Group& group : groups) {
        if (elements_of(placement, group) == 0) continue;
        if (const auto kernel = transposed(placement, group))
            add_kernel_step(placement, group, *kernel);
        else
            together.push_back(&group);
    }
    if (together.empty()) return;
    PartsKernel kernel(placement, "pointwise", together.size());
    Group all = *together[0];
    for (const Group* group : together) {
        add_part(kernel, placement, *group);
        if (group == together[0]) continue;
        all.swallowed.push_back(group->anchor);
        std::ranges::copy(group->swallowed, std::back_inserter(all.swallowed));
        std::ranges::copy(group->outputs, std::back_inserter(all.outputs));
    }
    if (together.size() > 1)
        all.reason = fmt::format("{} in one kernel, as none reads another", together.size());
    add_kernel_step(placement, all, kernel.finish());
}

void lower_copy(Placement& placement, const TensorRef& from, const TensorRef& to,
                const std::string& reason) {
    const std::int64_t count = checked_size(to.shape);
    if (count == 0) return;
    Group group;
    group.rule = "copy";
    group.reason = reason;
    const ElementText element = [&](Emitter& emitter, const Index& index) {
        return emitter.load(from, index, "x");
    };
    if (const auto transposed = draft_transposed(placement, to, {}, element))
        return add_kernel_step(placement, group, *transposed);
    int lanes = static_cast<int>(16 / size_of(to.dtype));
    while (lanes > 1 && (count % lanes != 0 || count / lanes < 1 << 14)) lanes /= 2;
    PartsKernel kernel(placement, "copy", 1);
    kernel.add(count, lanes, [&](Emitter& emitter, const std::string& number) {
        const Index index = index_of(emitter.math(), number, to);
        emitter.store(to, index, element(emitter, index));
    });
    add_kernel_step(placement, group, kernel.finish());
}

}  // namespace kn::cuda
