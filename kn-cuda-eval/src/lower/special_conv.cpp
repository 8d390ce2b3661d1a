// Convolutions that cuDNN does not take: any element type, layout and grouping; and depthwise ones.
#include <algorithm>
#include <array>
#include <functional>
#include <optional>

#include "lower/special.h"

namespace kn::cuda {

namespace {

/// A convolution or its gradient with three spatial axes; missing ones have size 1.
struct Geometry {
    bool transposed = false;
    std::size_t rank = 0;  ///< spatial axes that there are
    std::int64_t batch = 0, groups = 1;
    std::int64_t channels = 0, per_group = 0;  ///< of x and of the result, in each group
    std::array<std::int64_t, 3> in{1, 1, 1}, out{1, 1, 1}, kernel{1, 1, 1};
    std::array<std::int64_t, 3> stride{1, 1, 1}, dilation{1, 1, 1}, before{0, 0, 0};
};

template <class Op>
Geometry geometry_of(const Graph& graph, Value anchor, const Op& op) {
    const Ints x = graph.shape(op.x).to_ints();
    const Ints w = graph.shape(op.w).to_ints();
    const Ints y = graph.shape(anchor).to_ints();
    Geometry g;
    g.transposed = std::is_same_v<Op, op::ConvTranspose>;
    g.rank = op.strides.size();
    g.batch = x[0];
    g.groups = op.groups;
    g.channels = x[1] / op.groups;
    g.per_group = y[1] / op.groups;
    for (std::size_t i = 0; i < g.rank; ++i) {
        const std::size_t a = 3 - g.rank + i;
        g.in[a] = x[2 + i];
        g.out[a] = y[2 + i];
        g.kernel[a] = w[2 + i];
        g.stride[a] = op.strides[i];
        g.dilation[a] = op.dilations[i];
        g.before[a] = op.pads_before[i].value();
    }
    return g;
}

/// (n, c, d, h, w) of a tensor with fewer spatial axes.
AxisGroups five_axes(std::size_t spatial) {
    AxisGroups groups{{0}, {1}, {}, {}, {}};
    for (std::size_t i = 0; i < spatial; ++i)
        groups[5 - spatial + i] = {static_cast<std::int64_t>(2 + i)};
    return groups;
}

void declare_sizes(HandKernel& kernel, const Geometry& g) {
    kernel.constant("kTransposed", g.transposed ? 1 : 0);
    kernel.constant("kBatch", g.batch);
    for (std::size_t a = 0; a < 3; ++a) {
        const std::string i = std::to_string(a);
        kernel.constant("kIn" + i, g.in[a]);
        kernel.constant("kOut" + i, g.out[a]);
        kernel.constant("kKernel" + i, g.kernel[a]);
        kernel.constant("kStride" + i, g.stride[a]);
        kernel.constant("kDilation" + i, g.dilation[a]);
        kernel.constant("kBefore" + i, g.before[a]);
    }
}

/// Elements that one access of 16 bytes moves, if channels lie side by side in all three tensors
/// and everything else lies at multiples of that; else 1.
std::int64_t vector_of(const TensorRef& tensor, std::int64_t most) {
    if (tensor.shape[1] != 1 && tensor.strides[1] != 1) return 1;
    std::int64_t vector = most;
    const auto fits = [&](std::int64_t offset) { return offset % vector == 0; };
    while (vector > 1) {
        bool all = fits(tensor.shape[1]) && fits(tensor.offset);
        for (std::size_t a = 0; a < tensor.shape.size(); ++a)
            if (a != 1 && tensor.shape[a] != 1) all = all && fits(tensor.strides[a]);
        if (all) break;
        vector /= 2;
    }
    return vector;
}

/// The weights of a depthwise convolution with channels innermost: for constants, as uploaded.
std::optional<TensorRef> channels_last_weights(Placement& placement, Value w) {
    if (!placement.graph().get_if<op::Constant>(w)) return std::nullopt;
    AxisOrder order;
    for (std::size_t a = 1; a < placement.graph().shape(w).rank(); ++a)
        order.push_back(static_cast<std::int64_t>(a));
    order.push_back(0);
    return placement.constant(w, placement.graph().dtype(w), order);
}

/// NAME(n, c, d, h, w, sum): a function whose body `write` makes from the values after the anchor,
/// of which `sum` is an element.
void declare_epilogue(HandKernel& kernel, const Group& group, const Geometry& g,
                      const std::string& name, const std::string& sums,
                      const std::function<void(Emitter&, const Index&)>& write) {
    const std::string type = compute_type(kernel.placement().graph().dtype(group.anchor));
    kernel.code().open("const auto " + name + " = [&](Int n, Int c, Int d, Int h, Int w, " + sums +
                       " sum)");
    kernel.line("const " + type + " anchor = (" + type + ")sum;");
    Emitter emitter(kernel.placement(), kernel.code(), kernel.operands());
    emitter.computes(group.outputs);
    emitter.provide(group.anchor, [](const Index&) { return std::string("anchor"); });
    Index index = {emitter.math().variable("n", g.batch),
                   emitter.math().variable("c", g.groups * g.per_group)};
    static const std::array<const char*, 3> names = {"d", "h", "w"};
    for (std::size_t a = 3 - g.rank; a < 3; ++a)
        index.push_back(emitter.math().variable(names[a], g.out[a]));
    write(emitter, index);
    kernel.code().close("};");
}

void declare_store(HandKernel& kernel, const Group& group, const Geometry& g,
                   const std::string& sums) {
    declare_epilogue(kernel, group, g, "store", sums, [&](Emitter& emitter, const Index& index) {
        for (const Value& output : group.outputs)
            emitter.store(output, index, emitter.value(output, index));
    });
}

/// (c, d, h, w) of the weights of a depthwise convolution, whose channels are this axis.
AxisGroups weight_axes(std::size_t spatial, std::int64_t channel_axis) {
    AxisGroups groups = five_axes(spatial);
    groups.erase(groups.begin());
    groups[0] = {channel_axis};
    return groups;
}

/// Channels side by side everywhere: many of them by each thread.
bool lower_depthwise_vectors(Placement& placement, const Group& group, const Geometry& g,
                             const TensorRef& x, Value w_value) {
    const Graph& graph = placement.graph();
    const DType dtype = graph.dtype(group.anchor);
    const Value output = group.outputs[0];
    const auto w = channels_last_weights(placement, w_value);
    if (!w || group.outputs.size() != 1 || graph.dtype(output) != dtype) return false;
    const TensorRef& y = placement.stored(output);
    TensorRef w_channels = *w;  // channels as axis 1, as in the other two
    std::swap(w_channels.shape[0], w_channels.shape[1]);
    std::swap(w_channels.strides[0], w_channels.strides[1]);
    std::int64_t vector = 16 / static_cast<std::int64_t>(size_of(dtype));
    for (const TensorRef* tensor : {&x, &y, static_cast<const TensorRef*>(&w_channels)})
        vector = vector_of(*tensor, vector);
    if (vector == 1) return false;

    HandKernel kernel(placement, "conv_depthwise");
    declare_sizes(kernel, g);
    const std::int64_t columns = std::min<std::int64_t>(g.out[2], 4);
    kernel.constant("kChannels", g.groups);
    kernel.constant("kVector", vector);
    kernel.constant("kColumns", columns);
    kernel.read("x", x, five_axes(g.rank));
    kernel.read("weight", w_channels, weight_axes(g.rank, 1));
    kernel.write("y", y, five_axes(g.rank));
    declare_epilogue(kernel, group, g, "finish", "float",
                     [&](Emitter& emitter, const Index& index) {
                         kernel.line("return " + emitter.value(output, index) + ";");
                     });
    const std::int64_t tasks =
        g.batch * g.out[0] * g.out[1] * ceil_div(g.out[2], columns) * (g.groups / vector);
    kernel.add_step(group, "conv_depthwise", ceil_div(tasks, 128), 128);
    return true;
}

bool lower_depthwise(Placement& placement, const Group& group, const Geometry& g, Value x_value,
                     Value w_value) {
    const DType dtype = placement.graph().dtype(group.anchor);
    constexpr std::int64_t kTallest = 16;  // kernels whose column fits a thread's registers
    if (g.transposed || g.channels != 1 || g.per_group != 1 || !is_float(dtype) ||
        dtype == DType::F64 || g.kernel[1] > kTallest || g.kernel[2] > kTallest)
        return false;
    const TensorRef x = operand_of(placement, x_value);
    if (lower_depthwise_vectors(placement, group, g, x, w_value)) return true;

    HandKernel kernel(placement, "conv_depthwise_planes");
    declare_sizes(kernel, g);
    const std::int64_t rows = std::min<std::int64_t>(g.out[1], 4);
    kernel.constant("kChannels", g.groups);
    kernel.constant("kRows", rows);
    kernel.read("x", x, five_axes(g.rank));
    kernel.read("weight", operand_of(placement, w_value), weight_axes(g.rank, 0));
    declare_store(kernel, group, g, "float");
    const std::int64_t tasks = g.batch * g.groups * g.out[0] * ceil_div(g.out[1], rows) * g.out[2];
    kernel.add_step(group, "conv_depthwise", ceil_div(tasks, 128), 128);
    return true;
}

}  // namespace

void lower_direct_conv(Placement& placement, const Group& group) {
    const Graph& graph = placement.graph();
    const auto* forward = graph.get_if<op::Conv>(group.anchor);
    const auto* transpose = graph.get_if<op::ConvTranspose>(group.anchor);
    const Geometry g = forward ? geometry_of(graph, group.anchor, *forward)
                               : geometry_of(graph, group.anchor, *transpose);
    const Value x = forward ? forward->x : transpose->x;
    const Value w = forward ? forward->w : transpose->w;
    if (lower_depthwise(placement, group, g, x, w)) return;

    const std::string sums = sum_type(graph.dtype(group.anchor));
    HandKernel kernel(placement, "conv_direct");
    declare_sizes(kernel, g);
    std::int64_t filters = 8;
    while (filters > 1 && filters >= 2 * g.per_group) filters /= 2;
    const std::int64_t blocks = ceil_div(g.per_group, filters);
    kernel.constant("kChannels", g.channels);
    kernel.constant("kPerGroup", g.per_group);
    kernel.constant("kFilters", filters);
    kernel.constant("kBlocksPerGroup", blocks);
    kernel.constant("kFilterBlocks", blocks * g.groups);
    kernel.type("acc_t", sums);
    kernel.read("x", operand_of(placement, x), five_axes(g.rank));
    kernel.read("weight", operand_of(placement, w), five_axes(g.rank));
    declare_store(kernel, group, g, sums);
    const std::int64_t positions = g.batch * g.out[0] * g.out[1] * g.out[2];
    kernel.add_step(group, g.transposed ? "conv_transpose_direct" : "conv_direct",
                    ceil_div(positions, 128) * blocks * g.groups, 128);
}

}  // namespace kn::cuda
