#include "rules/normalized_product.h"

#include <algorithm>

#include <fmt/core.h>

#include "codegen/emit.h"
#include "lower/library.h"
#include "lower/product_epilogue.h"
#include "lower/product_tiles.h"
#include "lower/row_moments.h"
#include "planner/views.h"
#include "rules/product_group.h"
#include "rules/rules.h"

namespace kn::cuda {

namespace {

constexpr const char* rule = "normalized product";

// What statistics take longer where rows are written.
constexpr double giving_us = 0.4;

// Measured on an H200: a kernel for the rows, and the gap in front of it.
double norm_us(const ProductSizes& sizes, const NormalizedRows& rows) {
    const double start = rows.kind == NormKind::MeanSquare ? 1.95 : 2.65;
    constexpr double bytes_in_us = 3.6e6;
    return start + 4 * static_cast<double>(sizes.m * sizes.k) / bytes_in_us;
}

double product_us(const Grouping& grouping, Value product, Value end, const ProductTail& tail,
                  RowStatistics statistics, int given_parts = 0) {
    TensorProduct wanted = expected_product(grouping, product, end, tail);
    wanted.statistics = statistics;
    wanted.given_parts = given_parts;
    wanted.tiles = choose_tiles(wanted, grouping.device(), true);
    return clocks_of(wanted, wanted.tiles, grouping.device()) / clocks_in_us;
}

// Parts of each row of `x` whose statistics will come with it, if it is made by a product of ours,
// as far as is known before there are steps; 0: they will not.
int expected_row_parts(const Grouping& grouping, Value x, std::int64_t k) {
    if (grouping.options().disabled_rules.count(std::string(row_moments_rule.name))) return 0;
    const Graph& graph = grouping.graph();
    const auto end = matrix_of(graph, x, k, [&](Value value) { return grouping.is_stored(value); });
    if (!end || grouping.is_grouped(*end)) return 0;
    const auto found = find_product(grouping, *end);
    if (!found || why_no_tensor_product(grouping, found->main)) return 0;
    const ProductTail tail = tail_of(grouping, *end, *found);
    if (why_library_product(grouping, found->main, tail)) return 0;
    TensorProduct product = expected_product(grouping, found->main, *end, tail);
    product.norm_rows = 1;
    product.norm_columns = product.n;
    product.tiles = choose_tiles(product, grouping.device(), true, grouping.options());
    return product.why_no_parts() ? 0 : static_cast<int>(product.n / product.part_columns());
}

// Whether nothing but the normalisation needs the value in memory.
bool would_be_inlined(const Grouping& grouping, Value value) {
    const Graph& graph = grouping.graph();
    for (;;) {
        if (grouping.is_stored(value) || !grouping.has_one_user(value)) return false;
        const auto inner = viewed(graph, value);
        if (!inner) break;
        value = *inner;
    }
    return !find_product(grouping, value) && !Emitter::why_not_inline(graph, value);
}

std::optional<std::string> why_not(const Grouping& grouping, Value product, Value end,
                                   const ProductTail& tail, const NormalizedRows& rows) {
    const Graph& graph = grouping.graph();
    for (const Value& value : rows.path)
        if (!is_inner(grouping, value)) return "something else reads the normalised rows";
    if (!is_half(graph.dtype(product)) || graph.dtype(rows.x) != graph.dtype(product))
        return "statistics are taken of half types";
    if (grouping.is_grouped(rows.x) && !grouping.is_stored(rows.x))
        return "what it normalises is not in memory";
    if (would_be_inlined(grouping, rows.x)) return "it can be computed with what it normalises";
    Value weight = inputs_of(graph[product].operation)[1];
    const auto shared = [&](Value value) { return grouping.users(value).size() != 1; };
    const auto* permute = graph.get_if<op::Permute>(weight);
    const auto* concat = graph.get_if<op::Concat>(permute ? permute->x : weight);
    if (shared(weight) || (permute && shared(permute->x)) ||
        (concat && std::ranges::any_of(concat->inputs, shared)))
        return "something else reads the weight, so that it would be there twice";
    const ProductSizes sizes = product_sizes(graph, product);
    if (rows.kind == NormKind::MeanVariance && sizes.n % 4 != 0)
        return "its columns are no multiple of four";
    if (forced_tiles()) return std::nullopt;
    if (sizes.m <= 64) return "of few rows the libraries read the weights as fast";
    ProductTail own = tail;
    own.own = true;
    if (const auto why = why_library_product(grouping, product, own)) return why;
    const int parts = gains_by_moments(graph, product, end, rows.kind)
                          ? expected_row_parts(grouping, rows.x, sizes.k)
                          : 0;
    const double together = product_us(grouping, product, end, tail, statistics_of(rows), parts) +
                            (parts > 0 ? giving_us : 0);
    // Plain products are cuBLASLt's, which is so much faster.
    constexpr double library = 0.92;
    const double apart = product_us(grouping, product, end, tail, RowStatistics::None) *
                             (why_library_product(grouping, product, tail) ? library : 1) +
                         norm_us(sizes, rows);
    constexpr double least = 0.6;  // that is worth it: expectations err by more
    if (together + least > apart)
        return fmt::format("{:.1f} us are expected, {:.1f} apart", together, apart);
    return std::nullopt;
}

void normalized_product(Grouping& grouping, Value value) {
    const auto found = find_product(grouping, value);
    if (!found || why_no_tensor_product(grouping, found->main)) return;
    const auto rows =
        rows_to_normalize(grouping, found->main, value, tail_of(grouping, value, *found));
    if (!rows) return;
    Group group = product_group(grouping.graph(), rule, found->main, value);
    for (const Value& other : found->others) demand_operand(grouping, other);
    group.reason =
        "product with " + std::to_string(found->swallowed.size()) + " operations behind it";
    normalize_rows(grouping, group, *rows);
    grouping.add(std::move(group), found->swallowed);
}

}  // namespace

std::optional<NormalizedRows> rows_to_normalize(Grouping& grouping, Value product, Value end,
                                                const ProductTail& tail) {
    const Graph& graph = grouping.graph();
    if (!graph.get_if<op::MatMul>(product) || grouping.options().disabled_rules.count(rule))
        return std::nullopt;
    auto rows = normalized_rows(graph, inputs_of(graph[product].operation)[0]);
    if (!rows) return std::nullopt;
    if (const auto why = why_not(grouping, product, end, tail, *rows)) {
        const bool gated = !(graph.shape(end) == graph.shape(product));
        if (end == product || gated) grouping.decide(rule, false, product, *why);
        return std::nullopt;
    }
    return rows;
}

void normalize_rows(Grouping& grouping, Group& group, const NormalizedRows& rows) {
    group.roles["a"] = rows.x;
    group.in_front = rows.path;
    grouping.demand(rows.x);
    const std::string reason = rows.kind == NormKind::MeanSquare
                                   ? "of rows by the mean of their squares"
                                   : "of rows by their mean and variance";
    group.reason += ", " + reason;
    grouping.decide(rule, true, rows.path.back(), reason);
}

std::vector<Rule> normalized_product_rules() {
    return {{{rule,
              "A normalisation of the rows that one product by a weight reads: the weight has its "
              "factors, and the product's kernel takes the statistics"},
             normalized_product}};
}

}  // namespace kn::cuda
