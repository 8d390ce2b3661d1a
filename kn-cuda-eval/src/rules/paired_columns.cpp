#include <algorithm>

#include <fmt/core.h>

#include "lower/library.h"
#include "lower/paired_epilogue.h"
#include "lower/product_epilogue.h"
#include "lower/product_tiles.h"
#include "rules/normalized_product.h"
#include "rules/paired_pattern.h"
#include "rules/product_group.h"
#include "rules/rules.h"

namespace kn::cuda {

namespace {

constexpr const char* rule = "paired columns";

// What the kernel would be.
TensorProduct kernel_of(const Grouping& grouping, Value product, const PairedColumns& columns,
                        RowStatistics statistics) {
    const Graph& graph = grouping.graph();
    const ProductSizes sizes = product_sizes(graph, product);
    TensorProduct wanted;
    wanted.type = data_type(graph.dtype(product)).value();
    wanted.m = sizes.m;
    wanted.n = sizes.n;
    wanted.k = wanted.row_stride = sizes.k;
    wanted.lanes = 2;
    wanted.partner = static_cast<int>(columns.distance);
    wanted.statistics = statistics;
    wanted.tiles = choose_tiles(wanted, grouping.device(), true);
    return wanted;
}

// Why a product by cuBLASLt, and a kernel behind it, would be faster; measured on an H200: how much
// faster than ours the library is, and what that kernel takes with the gap in front of it.
std::optional<std::string> why_apart(const Grouping& grouping, const TensorProduct& product) {
    if (forced_tiles()) return std::nullopt;
    constexpr double library = 0.92, start = 1.6, bytes_in_us = 3.6e6;
    const DeviceProperties& device = grouping.device();
    TensorProduct alone = product;
    alone.partner = 0;
    alone.tiles = choose_tiles(alone, device, true);
    const double together = clocks_of(product, product.tiles, device) / clocks_in_us;
    const double apart = library * clocks_of(alone, alone.tiles, device) / clocks_in_us + start +
                         4 * static_cast<double>(product.m * product.n) / bytes_in_us;
    if (together <= apart) return std::nullopt;
    return fmt::format("{:.1f} us are expected, {:.1f} apart", together, apart);
}

std::optional<std::string> why_not(const Grouping& grouping, Value product,
                                   const PairedPattern& pattern) {
    const Graph& graph = grouping.graph();
    const PairedColumns& columns = pattern.columns;
    if (!pattern.why_not.empty()) return pattern.why_not;
    if (grouping.is_output(columns.root)) return "the product itself is wanted, too";
    if (const auto why = why_no_tensor_product(grouping, product)) return why;
    if (const auto why = why_two_kernels(grouping, product)) return why;
    const DType dtype = graph.dtype(columns.root);
    if (!is_half(dtype)) return "results go through the copy engine as half types";
    if (graph.dtype(product) != dtype) return "results are of another type";
    for (const auto& part : columns.parts) {
        if (graph.dtype(part.end) != dtype) return "results are of another type";
        if (part.first % paired_panel != 0 || part.count % paired_panel != 0)
            return "results begin amid columns that are written at once";
    }
    return kernel_of(grouping, product, columns, RowStatistics::None).why_not();
}

void paired_columns(Grouping& grouping, Value root) {
    const Graph& graph = grouping.graph();
    if (graph.shape(root).rank() != 2) return;
    const auto found = find_product(grouping, root);
    if (!found || !graph.get_if<op::MatMul>(found->main)) return;
    const auto pattern = find_paired(grouping, root);
    if (!pattern) return;
    if (const auto why = why_not(grouping, found->main, *pattern))
        return grouping.decide(rule, false, root, *why);
    const PairedColumns& columns = pattern->columns;
    auto rows = rows_to_normalize(grouping, found->main, root, {.own = true});
    if (rows && kernel_of(grouping, found->main, columns, statistics_of(*rows)).why_not())
        rows.reset();
    const TensorProduct plain = kernel_of(grouping, found->main, columns, RowStatistics::None);
    if (const auto why = rows ? std::nullopt : why_apart(grouping, plain))
        return grouping.decide(rule, false, root, *why);
    Group group = product_group(graph, rule, found->main, root);
    group.outputs.clear();
    for (const auto& part : columns.parts) group.outputs.push_back(part.end);
    group.paired = std::make_shared<const PairedColumns>(columns);
    for (const auto& others : {found->others, pattern->others})
        for (const Value& other : others) demand_operand(grouping, other);
    if (!rows) grouping.demand(inputs_of(graph[found->main].operation)[0]);
    group.reason = fmt::format("product whose columns meet those {} away behind it, in {} parts",
                               columns.distance, columns.parts.size());
    if (rows) normalize_rows(grouping, group, *rows);
    grouping.decide(rule, true, root, group.reason);
    std::vector<Value> swallowed = found->swallowed;
    swallowed.insert(swallowed.end(), pattern->inner.begin(), pattern->inner.end());
    if (std::ranges::count(swallowed, root) == 0 && std::ranges::count(group.outputs, root) == 0)
        swallowed.push_back(root);
    if (std::ranges::count(group.outputs, root) == 0) grouping.forget(root);
    grouping.add(std::move(group), swallowed);
}

}  // namespace

std::vector<Rule> paired_columns_rules() {
    return {
        {{rule,
          "A product by a weight, in whose columns' results each column meets one other (rotary "
          "embeddings), with all of them, on Hopper's tensor cores"},
         paired_columns}};
}

}  // namespace kn::cuda
