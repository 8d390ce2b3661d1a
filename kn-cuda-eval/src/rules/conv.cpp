#include "lower/conv.h"

#include "rules/epilogue.h"
#include "rules/rules.h"

namespace kn::cuda {

namespace {

bool is_convolution(const Operation& operation) {
    return is_any_of<op::Conv, op::ConvTranspose>(operation);
}

std::string in_words(const Group& group) {
    std::string out = "convolution";
    if (group.roles.count("residual")) out += " + residual";
    if (group.roles.count("bias")) out += " + bias";
    if (group.epilogue.activation == Activation::Relu) out += " + relu";
    return out;
}

void convolution(Grouping& grouping, Value value) {
    const Graph& graph = grouping.graph();
    const auto pattern = match_epilogue(grouping, value, 1, is_convolution);
    if (!pattern || pattern->gelu_tanh) return;
    Group group;
    group.kind = Group::Kind::Conv;
    group.anchor = pattern->main;
    group.outputs = {value};
    group.rule = "convolution";
    const std::vector<Value> operands = inputs_of(graph[pattern->main].operation);
    group.roles = {{"x", operands[0]}, {"w", operands[1]}, {"y", value}};
    if (pattern->bias) group.roles["bias"] = *pattern->bias;
    if (pattern->residual) group.roles["residual"] = *pattern->residual;
    if (pattern->relu) group.epilogue.activation = Activation::Relu;

    // Tensor cores want channels innermost; without them NCHW needs no inner transposes.
    const DType dtype = graph.dtype(pattern->main);
    const bool tensor_cores = uses_tensor_cores(grouping.options(), dtype);
    std::string why;
    for (const bool channels_last : {tensor_cores, !tensor_cores}) {
        group.channels_last = channels_last;
        CudnnSupport support;
        try {
            support = cudnn_support(conv_problem(graph, group), grouping.device(),
                                    grouping.options().workspace_bytes, tensor_cores);
        } catch (const GraphError& error) {
            support.reason = error.what();
        }
        if (support.supported) {
            group.reason = in_words(group) + (channels_last ? " in NHWC" : " in NCHW") +
                           ": cuDNN has precompiled kernels";
            for (const auto& [role, operand] : group.roles)
                if (role != "y") grouping.demand(operand);
            grouping.decide(group.rule, true, value, group.reason);
            grouping.add(std::move(group), pattern->swallowed);
            return;
        }
        if (why.empty()) why = support.reason;
    }
    grouping.decide(group.rule, false, value, in_words(group) + ": " + why);
}

}  // namespace

std::vector<Rule> conv_rules() {
    return {{{"convolution",
              "A convolution with what follows it (residual, bias, relu) as one cuDNN call"},
             convolution}};
}

}  // namespace kn::cuda
