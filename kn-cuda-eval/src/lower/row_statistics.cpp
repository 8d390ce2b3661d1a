#include "lower/row_statistics.h"

#include <fmt/core.h>

#include "lower/row_values.h"

namespace kn::cuda {

namespace {

struct Row {
    RowThreads& threads;
    Code& code;
    DType dtype;  // of the operand
    std::string type;
    std::int64_t count;

    std::string reduce(const std::string& op, const RowThreads::Element& element) {
        return threads.reduce(op, type, count, element);
    }
    void divide_by_count(const std::string& total) {
        code.line(fmt::format("{} /= ({}){};", total, type, count));
    }
};

std::string total_of(Row row, const op::Reduce& o, const RowThreads::Element& element) {
    const std::string total = row.reduce(reduce_type(o.op), element);
    if (o.op == ReduceOp::Mean) row.divide_by_count(total);
    return total;
}

std::string place_of_most(Row row, const op::ArgReduce& o, const RowThreads::Element& element) {
    const std::string most = row.reduce(o.largest ? "kn_op_max" : "kn_op_min", element);
    const std::int64_t end = row.count - 1;
    // Of NaNs the first.
    const bool real = is_float(row.dtype);
    row.type = "long long";
    const std::string best = row.reduce("kn_op_min", [&](const std::string& k) {
        const std::string v = element(k);
        const std::string at = o.last ? fmt::format("{} - ({})", end, k) : k;
        const std::string place =
            !real ? fmt::format("(long long)({})", at)
                  : fmt::format("(long long)({0} != {0} ? ({1}) : ({2}))", most, k, at);
        const std::string hit =
            !real ? fmt::format("{} == {}", v, most)
                  : fmt::format("({0} == {1} || ({0} != {0} && {1} != {1}))", v, most);
        return fmt::format("({} ? {} : 0x7fffffffffffffffll)", hit, place);
    });
    if (o.last)
        row.code.line(real ? fmt::format("if ({1} == {1}) {0} = {2} - {0};", best, most, end)
                           : fmt::format("{0} = {1} - {0};", best, end));
    return best;
}

std::vector<std::string> most_and_sum(Row row, const RowElements& elements) {
    const std::string most = row.reduce("kn_op_max", elements.value);
    const std::string sum = row.reduce(
        "kn_op_sum", [&](const std::string& k) { return elements.exponential(k, most); });
    return {most, sum};
}

/// The squares' distances are from the mean itself, which needs a pass of its own.
std::vector<std::string> mean_and_scale(Row row, const Graph& graph, Value norm,
                                        const RowThreads::Element& element) {
    std::string mean;
    if (graph.get_if<op::Norm>(norm)->kind == NormKind::MeanVariance) {
        mean = row.reduce("kn_op_sum", element);
        row.divide_by_count(mean);
    }
    const std::string scale = row.reduce("kn_op_sum", [&](const std::string& k) {
        const std::string v = element(k);
        return mean.empty() ? fmt::format("{0} * {0}", v)
                            : fmt::format("({0} - {1}) * ({0} - {1})", v, mean);
    });
    row.code.line(fmt::format("{} = {};", scale, norm_scale(graph, norm, scale)));
    return {mean, scale};
}

}  // namespace

std::vector<std::string> row_statistics(RowThreads& threads, Code& code, const Graph& graph,
                                        Value reduction, const RowElements& elements) {
    const Operation& operation = graph[reduction].operation;
    const DType dtype = graph.dtype(inputs_of(operation).at(0));
    const Row row{threads, code, dtype, compute_type(dtype), reduced_count(graph, reduction)};
    if (const auto* o = std::get_if<op::Reduce>(&operation))
        return {total_of(row, *o, elements.value)};
    if (const auto* o = std::get_if<op::ArgReduce>(&operation))
        return {place_of_most(row, *o, elements.value)};
    if (std::holds_alternative<op::Softmax>(operation)) return most_and_sum(row, elements);
    return mean_and_scale(row, graph, reduction, elements.value);
}

}  // namespace kn::cuda
