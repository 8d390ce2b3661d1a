#include "lower/conv.h"

#include <algorithm>

#include "lower/lower.h"

namespace kn::cuda {

namespace {

std::vector<std::int64_t> numbers(const std::vector<Dim>& dims) {
    std::vector<std::int64_t> out;
    for (const Dim& dim : dims) out.push_back(dim.value());
    return out;
}

template <class Op, class Desc>
void set_window(const Op& conv, Desc& desc) {
    desc.pad_before = numbers(conv.pads_before);
    desc.pad_after = numbers(conv.pads_after);
    desc.stride = conv.strides;
    desc.dilation = conv.dilations;
    for (const auto& pads : {desc.pad_before, desc.pad_after})
        if (std::ranges::any_of(pads, [](std::int64_t p) { return p < 0; }))
            throw GraphError("cuDNN has no negative pads");
}

// The operand where cuDNN can read it: a view if its strides suit, else a copy.
TensorRef operand_for(Placement& placement, Value value, const AxisOrder& order) {
    const auto view = placement.view(value);
    const Ints shape = placement.graph().shape(value).to_ints();
    if (view && alignment_of(placement.plan(), *view) >= 16) {
        const Ints wanted = strides_for(shape, order);
        bool same = true;
        for (std::size_t i = 0; i < shape.size(); i++)
            same = same && (shape[i] == 1 || view->strides[i] == wanted[i]);
        if (same) {
            TensorRef out = *view;
            out.strides = wanted;
            return out;
        }
    }
    return placement.copy_of(value, order);
}

std::int64_t flops_of(const Graph& graph, const Group& group) {
    const Ints w = graph.shape(group.roles.at("w")).to_ints();
    const bool transposed = graph.get_if<op::ConvTranspose>(group.anchor) != nullptr;
    std::int64_t each = 2;
    for (std::size_t i = 1; i < w.size(); i++) each *= w[i];
    const Value over = transposed ? group.roles.at("x") : group.anchor;
    return each * checked_size(graph.shape(over).to_ints());
}

}  // namespace

bool uses_tensor_cores(const PlanOptions& options, DType dtype) {
    return is_half(dtype) || (dtype == DType::F32 && options.precision == Precision::TF32);
}

Tf32Part tensor_core_part(DType dtype) {
    return dtype == DType::F32 ? Tf32Part::High : Tf32Part::None;
}

CudnnProblem conv_problem(const Graph& graph, const Group& group) {
    const Ints x_shape = graph.shape(group.roles.at("x")).to_ints();
    const AxisOrder order =
        group.channels_last ? channels_last_order(x_shape.size()) : row_major(x_shape.size());
    const auto desc = [&](const std::string& role) {
        const Value value = group.roles.at(role);
        if (!data_type(graph.dtype(value)) || graph.dtype(value) == DType::F64)
            throw GraphError("cuDNN convolves no " + std::string(name_of(graph.dtype(value))));
        return dense_desc(graph.dtype(value), graph.shape(value).to_ints(), order);
    };
    Epilogue epilogue = group.epilogue;
    if (group.roles.count("residual")) epilogue.residual = desc("residual");
    if (group.roles.count("bias")) epilogue.bias = desc("bias");
    if (const auto* conv = graph.get_if<op::Conv>(group.anchor)) {
        ConvDesc out;
        out.x = desc("x");
        out.w = desc("w");
        out.y = desc("y");
        out.epilogue = epilogue;
        set_window(*conv, out);
        return out;
    }
    const auto* conv = graph.get_if<op::ConvTranspose>(group.anchor);
    KN_CHECK(conv);
    ConvTransposeDesc out;
    out.x = desc("x");
    out.w = desc("w");
    out.y = desc("y");
    out.epilogue = epilogue;
    set_window(*conv, out);
    return out;
}

void lower_conv(Placement& placement, const Group& group) {
    const Graph& graph = placement.graph();
    const CudnnProblem problem = conv_problem(graph, group);
    const std::size_t rank = graph.shape(group.anchor).rank();
    const AxisOrder order = group.channels_last ? channels_last_order(rank) : row_major(rank);
    const Plan& plan = placement.plan();
    const bool tensor_cores = uses_tensor_cores(plan.options, graph.dtype(group.anchor));
    const CudnnSupport support =
        cudnn_support(problem, plan.device, plan.options.workspace_bytes, tensor_cores);
    if (!support.supported) throw GraphError("cuDNN: " + support.reason);

    Step step =
        step_of(graph, group, graph.get_if<op::Conv>(group.anchor) ? "conv" : "conv-transpose");
    for (const CudnnOperand& operand : operands(problem)) {
        if (operand.output) continue;
        const Value value = group.roles.at(operand.name);
        step.operands.push_back({operand_for(placement, value, order), Access::Read, operand.name});
    }
    const TensorRef& y = placement.stored(group.outputs[0]);
    TensorRef written = y;
    const Ints wanted = strides_for(y.shape, order);
    for (std::size_t i = 0; i < wanted.size(); i++)
        if (y.shape[i] == 1) written.strides[i] = wanted[i];
    const bool in_place = written.strides == wanted && alignment_of(plan, written) >= 16;
    if (!in_place) written = placement.scratch(y.dtype, y.shape, "conv result", order);
    step.operands.push_back({written, Access::Write, "y"});
    if (support.workspace_bytes > 0)
        step.operands.push_back(workspace_operand(placement, support.workspace_bytes));
    step.work = CudnnWork{problem, tensor_cores};
    step.flops = flops_of(graph, group);
    if (!in_place) step.produces.clear();
    placement.plan().steps.push_back(std::move(step));
    if (in_place) return;
    lower_copy(placement, written, y, "the convolution's layout is another");
    placement.plan().steps.back().produces = group.outputs;
}

}  // namespace kn::cuda
