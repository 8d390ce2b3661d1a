#include "lower/library.h"
#include "rules/epilogue.h"
#include "rules/rules.h"

namespace kn::cuda {

namespace {

bool is_product(const Operation& operation) {
    return std::holds_alternative<op::MatMul>(operation);
}

// What a loop in a thread does better, or alone does: no sums, integers, no elements to sum.
std::optional<std::string> why_no_library(const Graph& graph, Value product) {
    const auto* matmul = graph.get_if<op::MatMul>(product);
    const DType dtype = graph.dtype(product);
    if (!data_type(dtype)) return "cuBLASLt multiplies no " + std::string(name_of(dtype));
    const Dim k = graph.shape(matmul->a)[graph.shape(matmul->a).rank() - 1];
    if (k == Dim(0) || k == Dim(1)) return "there is nothing to sum";
    return std::nullopt;
}

std::string in_words(const Group& group) {
    std::string out = "product";
    if (group.roles.count("residual")) out += " + residual";
    if (group.roles.count("bias")) out += " + bias";
    if (group.matmul_epilogue == MatmulEpilogue::Relu) out += " + relu";
    if (group.matmul_epilogue == MatmulEpilogue::GeluTanh) out += " + gelu (tanh)";
    return out;
}

void product(Grouping& grouping, Value value) {
    const Graph& graph = grouping.graph();
    const std::size_t rank = graph.shape(value).rank();
    if (rank < 2) return;
    const auto pattern = match_epilogue(grouping, value, rank - 1, is_product);
    if (!pattern) return;
    if (const auto why = why_no_library(graph, pattern->main)) {
        if (pattern->main == value) grouping.decide("product", false, value, *why);
        return;
    }
    // cuBLASLt's epilogues are for f32 and less.
    const bool plain = pattern->main == value;
    if (!plain && graph.dtype(value) == DType::F64) return;
    Group group;
    group.kind = Group::Kind::MatMul;
    group.anchor = pattern->main;
    group.outputs = {value};
    group.rule = "product";
    const auto* matmul = graph.get_if<op::MatMul>(pattern->main);
    group.roles = {{"a", matmul->a}, {"b", matmul->b}};
    if (pattern->bias) group.roles["bias"] = *pattern->bias;
    if (pattern->residual) group.roles["residual"] = *pattern->residual;
    if (pattern->relu) group.matmul_epilogue = MatmulEpilogue::Relu;
    if (pattern->gelu_tanh) group.matmul_epilogue = MatmulEpilogue::GeluTanh;
    for (const auto& [role, operand] : group.roles) grouping.demand(operand);
    group.reason = in_words(group) + " as one cuBLASLt call";
    grouping.decide(group.rule, true, value, group.reason);
    grouping.add(std::move(group), pattern->swallowed);
}

}  // namespace

std::vector<Rule> matmul_rules() {
    return {{{"product", "A matrix product with what follows it (residual, bias, relu, tanh gelu)"},
             product}};
}

}  // namespace kn::cuda
