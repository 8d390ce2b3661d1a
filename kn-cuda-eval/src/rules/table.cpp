#include "lower/column_parts.h"
#include "lower/row_moments.h"
#include "lower/tensor_product.h"
#include "planner/prepare.h"
#include "rules/rules.h"

namespace kn::cuda {

const std::vector<std::vector<Rule>>& rule_phases() {
    const auto joined = [](std::initializer_list<std::vector<Rule>> families) {
        std::vector<Rule> all;
        for (const auto& family : families) all.insert(all.end(), family.begin(), family.end());
        return all;
    };
    static const std::vector<std::vector<Rule>> phases = {
        joined({output_rules(), depthwise_rules(), squeezed_conv_rules(), squeeze_rules(),
                product_chain_rules(), gated_product_rules(), few_channels_pool_rules(),
                product_pair_rules(), conv_bands_rules(), paired_columns_rules(),
                normalized_product_rules(), tensor_product_rules(), conv_rules(), matmul_rules(),
                attention_rules(), special_rules()}),
        joined({rows_rules(), pointwise_rules()})};
    return phases;
}

std::vector<PlannerRule> planner_rules() {
    std::vector<PlannerRule> out = preparations();
    for (const auto& phase : rule_phases())
        for (const Rule& rule : phase) out.push_back(rule.info);
    out.push_back(column_parts_rule);
    out.push_back(row_moments_rule);
    out.push_back(minimal_filtering_rule);
    return out;
}

}  // namespace kn::cuda
