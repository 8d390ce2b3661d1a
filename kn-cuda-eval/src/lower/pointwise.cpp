// One thread computes one element, or some neighbouring ones, of each output.
#include <algorithm>
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

/// The kernel with so many elements a thread; nothing where that cannot be.
template <class Body>
std::optional<KernelDraft> draft(Placement& placement, const std::string& name, std::int64_t count,
                                 int lanes, const Body& body) {
    if (count % lanes != 0) return std::nullopt;
    KernelDraft result;
    Code code;
    Emitter emitter(placement, code, result.operands);
    emitter.set_lanes(lanes);
    const std::int64_t threads = count / lanes;
    code.line(fmt::format("const {0} t = ({0})blockIdx.x * {1} + threadIdx.x;",
                          emitter.math().type(), kThreads));
    if (threads % kThreads != 0) code.line(fmt::format("if (t >= {}) return;", threads));
    if (threads == 1) code.line("(void)t;");
    std::string number = emitter.math().variable("t", threads);
    if (lanes > 1) number = emitter.math().add(emitter.math().mul(number, lanes), "j");
    body(emitter, number);
    result.name = name;
    result.body = code.text();
    result.grid = {static_cast<unsigned>(ceil_div(threads, kThreads))};
    result.block = {static_cast<unsigned>(kThreads)};
    return result;
}

}  // namespace

void lower_pointwise(Placement& placement, const Group& group) {
    const std::int64_t count = checked_size(placement.stored(group.outputs.at(0)).shape);
    if (count == 0) return;
    int lanes = 16;
    for (const Value& output : group.outputs) {
        const TensorRef& tensor = placement.stored(output);
        KN_CHECK(checked_size(tensor.shape) == count, "outputs of different sizes in one step");
        lanes = std::min(lanes, static_cast<int>(16 / size_of(tensor.dtype)));
    }
    lanes = std::min(lanes, 8);
    const auto body = [&](Emitter& emitter, const std::string& number) {
        emitter.computes(group.outputs);
        for (const Value& output : group.outputs) {
            const Index index = index_of(emitter.math(), number, placement.stored(output));
            emitter.store(output, index, emitter.value(output, index));
        }
    };
    const auto transposed =
        group.outputs.size() > 1
            ? std::nullopt
            : draft_transposed(placement, placement.stored(group.outputs[0]), group.outputs,
                               [&](Emitter& emitter, const Index& index) {
                                   return emitter.value(group.outputs[0], index);
                               });
    if (transposed) return add_kernel_step(placement, group, *transposed);
    const std::string name = "pointwise";
    for (; lanes > 1; lanes /= 2) {
        // Enough threads to fill the device are worth more than wide accesses.
        if (count / lanes < std::int64_t{placement.plan().device.sm_count} * 512) continue;
        if (auto kernel = draft(placement, name, count, lanes, body))
            return add_kernel_step(placement, group, *kernel);
    }
    add_kernel_step(placement, group, *draft(placement, name, count, 1, body));
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
    const auto kernel = draft(placement, "copy", count, lanes, [&](Emitter& emitter, auto& number) {
        const Index index = index_of(emitter.math(), number, to);
        emitter.store(to, index, element(emitter, index));
    });
    add_kernel_step(placement, group, *kernel);
}

}  // namespace kn::cuda
