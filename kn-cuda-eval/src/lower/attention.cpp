#include "lower/attention.h"

#include "lower/lower.h"

namespace kn::cuda {

bool has_aligned_rows(const Plan& plan, const TensorRef& tensor) {
    const auto step = static_cast<std::int64_t>(16 / size_of(tensor.dtype));
    if (tensor.strides[3] != 1 && tensor.shape[3] != 1) return false;
    for (std::size_t i = 0; i < 3; i++)
        if (tensor.shape[i] != 1 && (tensor.strides[i] < 1 || tensor.strides[i] % step != 0))
            return false;
    return alignment_of(plan, tensor) >= 16;
}

std::optional<std::string> why_no_sdpa(const Graph& graph, const op::Attention& attention) {
    const DType dtype = graph.dtype(attention.q);
    if (!is_half(dtype)) return "cuDNN's kernels are for half types";
    const Ints q = graph.shape(attention.q).to_ints(), v = graph.shape(attention.v).to_ints();
    for (const std::int64_t width : {q[3], v[3]})
        if (width % 8 != 0 || width > 256)
            return "heads of " + std::to_string(width) +
                   ": cuDNN wants a multiple of 8, 256 at most";
    if (attention.mask && graph.dtype(*attention.mask) != dtype)
        return "a mask of " + std::string(name_of(graph.dtype(*attention.mask)));
    if (checked_size(graph.shape(attention.k).to_ints()) == 0) return "there are no keys";
    if (std::string why = why_no_cudnn(); !why.empty()) return why;
    return std::nullopt;
}

void lower_attention(Placement& placement, const Group& group) {
    if (group.own_kernel) return lower_tensor_attention(placement, group);
    const Graph& graph = placement.graph();
    const auto* attention = graph.get_if<op::Attention>(group.anchor);
    KN_CHECK(attention);
    Step step = step_of(graph, group, "attention");
    SdpaDesc desc;
    desc.scale = static_cast<float>(attention->scale);
    desc.causal = attention->causal == kn::CausalMask::TopLeft       ? CausalMask::TopLeft
                  : attention->causal == kn::CausalMask::BottomRight ? CausalMask::BottomRight
                                                                     : CausalMask::None;
    const auto read = [&](const std::string& role) {
        const Value value = group.roles.at(role);
        auto view = placement.view(value);
        const bool dense_mask =
            view && role == "bias" && view->strides == strides_for(view->shape, row_major(4));
        // The mask may have rows of any length.
        if (!view || !(dense_mask || has_aligned_rows(placement.plan(), *view)))
            view = placement.copy_of(value, row_major(4));
        step.operands.push_back({*view, Access::Read, role});
        return desc_of(*view);
    };
    desc.q = read("q");
    desc.k = read("k");
    desc.v = read("v");
    if (group.roles.count("bias")) desc.bias = read("bias");
    const TensorRef& o = placement.stored(group.outputs[0]);
    TensorRef written = o;
    if (!has_aligned_rows(placement.plan(), o))
        written = placement.scratch(o.dtype, o.shape, "attention result");
    desc.o = desc_of(written);
    step.operands.push_back({written, Access::Write, "o"});
    // The kernels that may be tried are known only where there is a driver; decoding splits along
    // the keys and needs partial results.
    const std::size_t partial = std::size_t{4} << 20;
    step.operands.push_back(
        workspace_operand(placement, std::min(placement.plan().options.workspace_bytes, partial)));
    step.work = CudnnWork{desc, true};
    const Ints q = desc.q.dims;
    step.flops = 2 * q[0] * q[1] * q[2] * desc.k.dims[2] * (q[3] + desc.v.dims[3]);
    placement.plan().steps.push_back(std::move(step));
    if (written == o) return;
    placement.plan().steps.back().produces.clear();
    lower_copy(placement, written, o, "the attention's layout is another");
    placement.plan().steps.back().produces = group.outputs;
}

}  // namespace kn::cuda
