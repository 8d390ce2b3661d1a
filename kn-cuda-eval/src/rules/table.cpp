#include "planner/prepare.h"
#include "rules/rules.h"

namespace kn::cuda {

const std::vector<Rule>& rule_table() {
    static const std::vector<Rule> table = [] {
        std::vector<Rule> all;
        for (const auto& family :
             {output_rules(), depthwise_rules(), tensor_product_rules(), conv_rules(),
              matmul_rules(), attention_rules(), special_rules(), rows_rules(), pointwise_rules()})
            all.insert(all.end(), family.begin(), family.end());
        return all;
    }();
    return table;
}

std::vector<PlannerRule> planner_rules() {
    std::vector<PlannerRule> out = preparations();
    for (const Rule& rule : rule_table()) out.push_back(rule.info);
    return out;
}

}  // namespace kn::cuda
