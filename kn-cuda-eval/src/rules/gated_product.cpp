#include <algorithm>
#include <set>

#include "lower/tensor_product.h"
#include "rules/normalized_product.h"
#include "rules/product_group.h"
#include "rules/rules.h"

namespace kn::cuda {

namespace {

// Of a product's result [m, n] or [N, C, H, W].
constexpr std::size_t columns_axis = 1;

/// What lies between a product and an elementwise operation that depends on it.
struct Found {
    std::set<std::uint32_t> seen;
    std::vector<Value> products;    ///< one, if this is the pattern
    std::vector<Value> path;        ///< elementwise operations and halves; the end is the last
    std::set<std::int64_t> starts;  ///< of the halves
    bool depends(Value value) const {
        return std::ranges::count(path, value) > 0 || std::ranges::count(products, value) > 0;
    }
};

/// Where a half of the columns begins, if that is what the value is.
std::optional<std::int64_t> half_start(const Graph& graph, Value value) {
    const auto* slice = graph.get_if<op::Slice>(value);
    if (!slice || graph.shape(value).rank() <= columns_axis) return std::nullopt;
    const Ints whole = graph.shape(slice->x).to_ints(), part = graph.shape(value).to_ints();
    for (std::size_t axis = 0; axis < whole.size(); ++axis)
        if (slice->steps[axis] != 1 || whole[axis] != part[axis] * (axis == columns_axis ? 2 : 1))
            return std::nullopt;
    return slice->starts[columns_axis].value();
}

void follow(const Grouping& grouping, Value value, Found& found) {
    constexpr std::size_t most = 32;
    const Graph& graph = grouping.graph();
    const Operation& operation = graph[value].operation;
    if (!found.seen.insert(value.index).second || found.path.size() > most) return;
    if (is_any_of<op::MatMul, op::Conv>(operation) && !grouping.is_grouped(value)) {
        found.products.push_back(value);
        return;
    }
    const auto half = half_start(graph, value);
    if (!half && !is_elementwise(operation)) return;
    if (grouping.is_grouped(value) || (grouping.is_stored(value) && found.seen.size() > 1)) return;
    bool depends = false;
    for (const Value& operand : inputs_of(operation)) {
        follow(grouping, operand, found);
        depends = depends || found.depends(operand);
    }
    if (!depends) return;
    if (half) found.starts.insert(*half);
    found.path.push_back(value);
}

/// Whether something but the pattern reads the value, or will.
bool has_other_reader(const Grouping& grouping, Value value, const Found& found) {
    return grouping.is_output(value) || grouping.is_stored(value) ||
           std::ranges::any_of(grouping.users(value),
                               [&](const Value& user) { return !found.depends(user); });
}

std::optional<std::string> why_not(const Grouping& grouping, Value end, const Found& found) {
    const Graph& graph = grouping.graph();
    if (found.products.size() > 1) return "several products meet in it";
    const Value main = found.products[0];
    const Ints y = graph.shape(end).to_ints(), whole = graph.shape(main).to_ints();
    if (whole[columns_axis] != 2 * y[columns_axis]) return "halves of halves meet in it";
    if (!is_half(graph.dtype(main)) || !is_half(graph.dtype(end)))
        return "results go through the copy engine as half types only";
    if (y[columns_axis] % 8 != 0) return "rows of the result are not aligned";
    if (has_other_reader(grouping, main, found)) return "something else reads the product";
    for (const Value& value : found.path)
        if (value != end && has_other_reader(grouping, value, found))
            return "something else reads what lies behind the product";
    if (const auto why = why_no_tensor_product(grouping, main)) return why;
    return why_two_kernels(grouping, main);
}

void gated_product(Grouping& grouping, Value value) {
    const Graph& graph = grouping.graph();
    if (!is_elementwise(graph[value].operation)) return;
    Found found;
    follow(grouping, value, found);
    if (found.products.empty() || found.starts.size() != 2) return;
    constexpr const char* rule = "gated product";
    if (const auto why = why_not(grouping, value, found))
        return grouping.decide(rule, false, value, *why);
    const Value main = found.products[0];
    Group group = product_group(graph, rule, main, value);
    const auto rows = rows_to_normalize(grouping, main, value, {.own = true});
    if (!rows) grouping.demand(inputs_of(graph[main].operation)[0]);
    for (const Value& inner : found.path)
        for (const Value& other : inputs_of(graph[inner].operation))
            if (!found.depends(other)) demand_operand(grouping, other);
    group.reason = "both halves of a " +
                   std::string(group.kind == Group::Kind::Conv ? "convolution" : "product") +
                   " in one tile, so that they meet before anything is written";
    if (rows) normalize_rows(grouping, group, *rows);
    grouping.decide(rule, true, value, group.reason);
    std::vector<Value> swallowed = found.path;
    std::erase(swallowed, value);
    swallowed.push_back(main);
    grouping.add(std::move(group), swallowed);
}

}  // namespace

std::vector<Rule> gated_product_rules() {
    return {{{"gated product",
              "A convolution or product by a weight, whose columns' two halves meet in elementwise "
              "operations, with all of them, on Hopper's tensor cores"},
             gated_product}};
}

}  // namespace kn::cuda
