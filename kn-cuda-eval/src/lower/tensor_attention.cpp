#include "codegen/attention_tensor.h"
#include "codegen/emit.h"
#include "lower/attention.h"
#include "lower/attention_tiles.h"
#include "lower/lower.h"

namespace kn::cuda {

namespace {

TensorAttention shape_of(const Graph& graph, const op::Attention& attention) {
    const Ints q = graph.shape(attention.q).to_ints(), k = graph.shape(attention.k).to_ints();
    TensorAttention out;
    out.dtype = graph.dtype(attention.q);
    out.batch = q[0];
    out.heads = q[1];
    out.key_heads = k[1];
    out.queries = q[2];
    out.keys = k[2];
    out.width = q[3];
    out.value_width = graph.shape(attention.v).to_ints()[3];
    out.scale = attention.scale;
    if (attention.causal == kn::CausalMask::TopLeft) out.causal_shift = 0;
    if (attention.causal == kn::CausalMask::BottomRight) out.causal_shift = k[2] - q[2];
    return out;
}

/// Rows whose distance over a tile is a 32-bit number.
bool suits(const Plan& plan, const TensorRef& tensor) {
    return has_aligned_rows(plan, tensor) && tensor.strides[2] < (1 << 23);
}

// Fitted to eight kernels, of 64 to 128 keys and widths from 40 to 160: products of a tile are
// unrolled, and the last tile is text of its own where there are several.
int compile_ms_of(const TensorAttention& attention) {
    const std::int64_t products = attention.tiles.keys * (140 + attention.width * 7 / 10) / 100;
    return static_cast<int>(attention.tiles.stages > 1 ? products * 8 / 5 : products);
}

std::array<std::int64_t, 3> strides_of(const TensorRef& tensor) {
    return {tensor.strides[0], tensor.strides[1], tensor.strides[2]};
}

}  // namespace

std::optional<std::string> why_no_tensor_attention(const Grouping& grouping,
                                                   const op::Attention& attention) {
    if (grouping.device().compute() != 90) return "the device is none of Hopper's";
    if (attention.mask) return "it has a mask";
    return shape_of(grouping.graph(), attention).why_not();
}

std::optional<std::string> why_library_attention(const Grouping& grouping,
                                                 const op::Attention& attention) {
    const TensorAttention shape = shape_of(grouping.graph(), attention);
    const std::int64_t scores = shape.batch * shape.heads * shape.queries * shape.keys;
    if (scores < 1 << 16) return "it is so small that the launch decides";
    if (shape.queries < 64) return "few queries leave most rows of the tensor cores' tiles empty";
    // Measured on an H200, 13 shapes with heads of 40 to 160: 0.4 to 0.8 of cuDNN's time.
    return std::nullopt;
}

void lower_tensor_attention(Placement& placement, const Group& group) {
    const auto* op = placement.graph().get_if<op::Attention>(group.anchor);
    KN_CHECK(op);
    TensorAttention attention = shape_of(placement.graph(), *op);
    KernelDraft draft;
    const auto read = [&](const char* role) {
        const Value value = group.roles.at(role);
        const auto view = placement.view(value);
        return view && suits(placement.plan(), *view) ? *view
                                                      : placement.copy_of(value, row_major(4));
    };
    const TensorRef q = read("q"), k = read("k"), v = read("v");
    const TensorRef& o = placement.stored(group.outputs[0]);
    const TensorRef written =
        suits(placement.plan(), o) ? o : placement.scratch(o.dtype, o.shape, "attention result");
    attention.q_strides = strides_of(q);
    attention.k_strides = strides_of(k);
    attention.v_strides = strides_of(v);
    attention.o_strides = strides_of(written);
    attention.tiles = choose_tiles(attention, placement.plan().device.sm_count);

    const auto map = [&](const TensorRef& tensor, const char* role, const TensorMapLayout& layout) {
        return draft.operands.map(draft.operands.pointer(tensor, Access::Read, role), layout);
    };
    const std::string mq = map(q, "q", attention.map_q()), mk = map(k, "k", attention.map_k()),
                      mv = map(v, "v", attention.map_v());
    const std::string po = draft.operands.pointer(written, Access::Write, "o");
    draft.name = "tensor_attention";
    draft.body =
        "    kn_attention({" + mq + ", " + mk + ", " + mv + "}, (unsigned short*)" + po + ");\n";
    draft.helpers = tensor_attention_helpers(attention);
    draft.grid = attention.grid();
    draft.block = {static_cast<unsigned>(attention.threads())};
    draft.blocks_per_sm = attention.tiles.blocks;
    draft.shared_bytes = attention.shared_bytes();
    draft.arch = "sm_90a";
    draft.compile_ms = compile_ms_of(attention);
    add_kernel_step(placement, group, draft);
    Step& step = placement.plan().steps.back();
    step.reason += ", in tiles of " + to_string(attention.tiles);
    step.flops = 2 * attention.batch * attention.heads * attention.queries * attention.keys *
                 (attention.width + attention.value_width);
    std::get<KernelWork>(step.work).flops_per_clock = 4096;
    if (written == o) return;
    step.produces.clear();
    lower_copy(placement, written, o, "the attention's layout is another");
    placement.plan().steps.back().produces = group.outputs;
}

}  // namespace kn::cuda
