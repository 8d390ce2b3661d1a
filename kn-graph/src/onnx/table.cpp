// The operators that kn has, by domain, name and version.
#include <algorithm>
#include <set>
#include <string_view>

#include <fmt/core.h>

#include "onnx/loader.h"

namespace kn::onnx {

namespace {

constexpr std::int64_t oldest_opset = 7, newest_opset = 28;

using Table = std::unordered_map<std::string, std::vector<ImportRow>>;

std::string key_of(const std::string& domain, const std::string& op) { return domain + "::" + op; }

Table make_table() {
    Table table;
    for (const auto& rows :
         {elementwise_rows, activation_rows, shape_rows, index_rows, reduction_rows, linear_rows,
          conv_rows, pool_rows, norm_rows, resize_rows, recurrent_rows, attention_rows,
          quantize_rows, signal_rows, contrib_rows})
        for (const ImportRow& row : rows()) table[key_of(row.domain, row.op)].push_back(row);
    for (auto& [key, rows] : table) {
        std::sort(rows.begin(), rows.end(),
                  [](const ImportRow& a, const ImportRow& b) { return a.since < b.since; });
        for (std::size_t i = 1; i < rows.size(); ++i)
            KN_CHECK(rows[i - 1].since != rows[i].since, key + " has two importers");
    }
    return table;
}

/// Operators of ai.onnx whose meaning has stood since opset 13, while newer versions only admit
/// more types: they are trusted under a newer stamp too.
bool is_settled(std::string_view op) {
    // clang-format off
    static const std::set<std::string_view> settled = {
        "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Concat",
        "Constant", "ConstantOfShape", "Conv", "Cos", "Cosh", "Div", "Elu", "Equal", "Erf", "Exp",
        "Expand", "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Gemm",
        "GlobalAveragePool", "GlobalMaxPool", "Greater", "GreaterOrEqual", "Identity", "If",
        "LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax", "Loop", "MatMul", "Max", "Mean",
        "Min", "Mul", "Neg", "Not", "Or", "PRelu", "Reciprocal", "Relu", "Reshape", "Round",
        "Selu", "Shape", "Sigmoid", "Sign", "Sin", "Sinh", "Size", "Slice", "Softmax", "Softplus",
        "Softsign", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tan", "Tanh", "Tile", "Transpose",
        "Unsqueeze", "Where", "Xor"};
    // clang-format on
    return settled.count(op) > 0;
}

}  // namespace

const ImportRow& find_row(const std::string& domain, const std::string& op, std::int64_t opset) {
    static const Table table = make_table();
    const auto found = table.find(key_of(domain, op));
    if (found == table.end()) fail_unsupported("the operator is not supported");
    const ImportRow* best = nullptr;
    for (const ImportRow& row : found->second)
        if (row.since <= opset) best = &row;
    if (best == nullptr)
        fail_unsupported(fmt::format("not supported at opset {}, only from {} on", opset,
                                     found->second.front().since));
    return *best;
}

void check_stamp(const std::string& domain, const std::string& op, std::int64_t opset) {
    if (!domain.empty()) return;
    if (opset < oldest_opset)
        fail_unsupported(fmt::format("opset {} is older than {}", opset, oldest_opset));
    if (opset > newest_opset && !is_settled(op))
        fail_unsupported(fmt::format("opset {} is newer than {}, and the operator may have changed",
                                     opset, newest_opset));
}

}  // namespace kn::onnx
