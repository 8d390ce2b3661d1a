// Recurrent layers: one product for the inputs of all time steps, then one kernel that goes through
// them, some sequences a block.
#include <algorithm>

#include <fmt/core.h>

#include "lower/library.h"
#include "lower/lower.h"
#include "lower/special.h"

namespace kn::cuda {

namespace {

struct Sizes {
    std::int64_t steps, batch, input, hidden, gates;
    std::int64_t width() const { return gates * hidden; }
};

struct Operands {
    TensorRef x, w, r;
    std::optional<TensorRef> projected;  // x w^T for all steps
};

/// x w^T for all steps, [steps, batch, width], as a cuBLASLt step; none where x or w do not lie as
/// it wants them.
std::optional<TensorRef> project(Placement& placement, const Group& group, const TensorRef& x,
                                 const TensorRef& w, const Sizes& s) {
    const bool rows = x.strides[2] == 1 && x.strides[1] >= s.input && x.strides[0] >= s.input;
    if (!rows || w.strides[1] != 1 || w.strides[0] < s.input || s.input == 0) return std::nullopt;
    const bool wide = x.dtype == DType::F64;
    const TensorRef d = placement.scratch(wide ? DType::F64 : DType::F32,
                                          {s.steps, s.batch, s.width()}, "gates of the inputs");
    MatMulWork work;
    MatmulDesc& desc = work.desc;
    const bool joined = x.strides[0] == s.batch * x.strides[1];
    desc.m = joined ? s.steps * s.batch : s.batch;
    desc.n = s.width();
    desc.k = s.input;
    desc.transpose_b = true;
    desc.a_type = desc.b_type = data_type(x.dtype).value();
    desc.d_type = data_type(d.dtype).value();
    const bool tf32 = placement.plan().options.precision == Precision::TF32;
    desc.compute = wide                            ? MatmulCompute::F64
                   : x.dtype == DType::F32 && tf32 ? MatmulCompute::Tf32
                                                   : MatmulCompute::F32;
    desc.lda = x.strides[1];
    desc.ldb = w.strides[0];
    desc.ldd = s.width();
    if (!joined) {
        desc.batch = s.steps;
        desc.stride_a = x.strides[0];
        desc.stride_d = s.batch * s.width();
    }
    const auto size = static_cast<std::int64_t>(size_of(x.dtype));
    const auto size_d = static_cast<std::int64_t>(size_of(d.dtype));
    for (const std::int64_t distance : {x.offset * size, x.strides[1] * size, x.strides[0] * size,
                                        w.offset * size, w.strides[0] * size, s.width() * size_d})
        while (distance % static_cast<std::int64_t>(desc.alignment) != 0) desc.alignment /= 2;

    Group part = group;
    part.outputs.clear();
    Step step = step_of(placement.graph(), part, "matmul");
    const TensorRef workspace = placement.scratch(
        DType::U8, {static_cast<std::int64_t>(placement.plan().options.workspace_bytes)},
        "workspace");
    step.work = work;
    step.operands = {{x, Access::Read, "a"},
                     {w, Access::Read, "b"},
                     {d, Access::Write, "d"},
                     {workspace, Access::Scratch, "workspace"}};
    step.flops = 2 * s.steps * s.batch * s.width() * s.input;
    placement.plan().steps.push_back(std::move(step));
    return d;
}

/// f(x) as C text.
std::string activation(CellActivation kind, double alpha_value, double beta_value) {
    const std::string alpha = fmt::format("acc_t({:.17g})", alpha_value);
    const std::string beta = fmt::format("acc_t({:.17g})", beta_value);
    switch (kind) {
        case CellActivation::Sigmoid: return "kn_sigmoid(x)";
        case CellActivation::Tanh: return "tanh(x)";
        case CellActivation::Relu: return "x < 0 ? acc_t(0) : x";
        case CellActivation::Affine: return alpha + " * x + " + beta;
        case CellActivation::LeakyRelu: return "x < 0 ? " + alpha + " * x : x";
        case CellActivation::ThresholdedRelu: return "x < " + alpha + " ? acc_t(0) : x";
        case CellActivation::ScaledTanh: return alpha + " * tanh(" + beta + " * x)";
        case CellActivation::HardSigmoid:
            return "kn_min(kn_max(" + alpha + " * x + " + beta + ", acc_t(0)), acc_t(1))";
        case CellActivation::Elu: return "x < 0 ? " + alpha + " * expm1(x) : x";
        case CellActivation::Softsign: return "kn_softsign(x)";
        case CellActivation::Softplus: return "kn_softplus(x)";
    }
    throw GraphError("an activation without code");
}

void declare_functions(HandKernel& kernel, const op::Recurrent& op) {
    for (std::size_t i = 0; i < 3; ++i) {
        std::string clip;
        if (op.clip && i < 2)
            clip = fmt::format(
                "const acc_t limit = acc_t({:.17g}); x = x < -limit ? -limit : x > "
                "limit ? limit : x; ",
                *op.clip);
        const std::string value = i < op.activations.size()
                                      ? activation(op.activations[i], op.alphas[i], op.betas[i])
                                      : "x";
        kernel.line(fmt::format("const auto f{} = [](acc_t x) -> acc_t {{ {}return {}; }};", i,
                                clip, value));
    }
}

/// What the cell's functions are made of: the product with x, r, and what may be left out.
void declare_operands(HandKernel& kernel, Placement& placement, const op::Recurrent& op,
                      const Operands& operands, const Sizes& s) {
    if (operands.projected) {
        kernel.read("input", *operands.projected);
    } else {
        kernel.read("x", operands.x);
        kernel.read("w", operands.w);
        kernel.line(fmt::format(
            "const auto input = [&](Int t, Int b, Int j) {{ acc_t sum = 0; for (int i = 0; i < {}; "
            "++i) sum += x(t, b, i) * w(j, i); return sum; }};",
            s.input));
    }
    kernel.read("r", operands.r);
    const auto optional = [&](const std::string& name, const std::optional<Value>& value,
                              const std::string& parameters, const std::string& otherwise) {
        if (value)
            kernel.read(name, operand_of(placement, *value));
        else
            kernel.function(name, parameters, otherwise);
    };
    optional("bias", op.bias, "Int", "acc_t(0)");
    optional("length", op.lengths, "Int", std::to_string(s.steps));
    optional("h0", op.h0, "Int, Int", "acc_t(0)");
    optional("c0", op.c0, "Int, Int", "acc_t(0)");
    optional("peephole", op.peephole, "Int", "acc_t(0)");
}

void declare_results(HandKernel& kernel, const Placement& placement, const Group& group) {
    kernel.write("all", placement.stored(group.anchor));
    const char* const names[] = {"last_h", "last_c"};
    for (std::size_t i = 0; i < 2; ++i) {
        if (const auto place = result_of(placement, group, i + 1))
            kernel.write(names[i], *place);
        else
            kernel.line(std::string("const auto ") + names[i] + " = [](Int, Int, acc_t) {};");
    }
}

/// A block's cells: in shared memory where they fit.
void declare_state(HandKernel& kernel, Placement& placement, std::int64_t blocks,
                   std::int64_t numbers, bool wide) {
    constexpr std::int64_t kShared = 48 << 10;
    if (numbers * (wide ? 8 : 4) <= kShared) {
        kernel.line(fmt::format("KN_SHARED acc_t state[{}];", numbers));
        return;
    }
    const TensorRef room =
        placement.scratch(wide ? DType::F64 : DType::F32, {blocks, numbers}, "states");
    kernel.pointer("states", room, Access::Scratch);
    kernel.line(fmt::format("acc_t* const state = states + (long long)blockIdx.x * {};", numbers));
}

}  // namespace

void lower_recurrent(Placement& placement, const Group& group) {
    const Graph& graph = placement.graph();
    const auto& op = *graph.get_if<op::Recurrent>(group.anchor);
    Operands operands;
    operands.x = operand_of(placement, op.x);
    operands.w = operand_of(placement, op.w);
    // Threads take neighbouring rows of r, so these are best innermost.
    operands.r = graph.get_if<op::Constant>(op.r)
                     ? placement.constant(op.r, graph.dtype(op.r), {1, 0})
                     : operand_of(placement, op.r);
    const Ints& shape = operands.x.shape;
    Sizes s{shape[0], shape[1], shape[2], operands.r.shape[1], 0};
    s.gates = op.kind == CellKind::Lstm ? 4 : op.kind == CellKind::Gru ? 3 : 1;
    operands.projected = project(placement, group, operands.x, operands.w, s);

    HandKernel kernel(placement, "recurrent");
    const bool wide = operands.x.dtype == DType::F64;
    const std::int64_t sms = std::max(placement.plan().device.sm_count, 1);
    const std::int64_t tile = s.batch <= sms ? 1 : s.batch <= 2 * sms ? 2 : 4;
    const std::int64_t state = (op.kind == CellKind::Lstm ? 2 : 1) * s.hidden + s.width();
    const std::int64_t blocks = ceil_div(s.batch, tile);
    kernel.type("acc_t", wide ? "double" : "float");
    kernel.constant("kSteps", s.steps);
    kernel.constant("kBatch", s.batch);
    kernel.constant("kHidden", s.hidden);
    kernel.constant("kGates", s.gates);
    kernel.constant("kTile", tile);
    kernel.constant("kReverse", op.reverse ? 1 : 0);
    kernel.constant("kApart", op.kind == CellKind::Gru && op.linear_before_reset ? 1 : 0);
    kernel.constant("kInputForget", op.input_forget ? 1 : 0);
    kernel.constant("kPeephole", op.peephole ? 1 : 0);
    declare_operands(kernel, placement, op, operands, s);
    declare_results(kernel, placement, group);
    declare_functions(kernel, op);
    declare_state(kernel, placement, blocks, tile * state, wide);
    const auto threads =
        static_cast<unsigned>(std::clamp<std::int64_t>(ceil_div(s.width(), 32) * 32, 32, 1024));
    kernel.add_step(group, "recurrent", blocks, threads);
}

}  // namespace kn::cuda
