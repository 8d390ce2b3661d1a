// The planner's rules by family; src/rules/<family>.cpp. The table tries them in the order of
// table.cpp.
#pragma once

#include <optional>
#include <string>

#include "planner/group.h"

namespace kn::cuda {

std::vector<Rule> output_rules();
std::vector<Rule> depthwise_rules();
std::vector<Rule> squeezed_conv_rules();
std::vector<Rule> squeeze_rules();
std::vector<Rule> product_chain_rules();
std::vector<Rule> gated_product_rules();
std::vector<Rule> few_channels_pool_rules();
std::vector<Rule> product_pair_rules();
std::vector<Rule> conv_bands_rules();
std::vector<Rule> paired_columns_rules();
std::vector<Rule> normalized_product_rules();
std::vector<Rule> tensor_product_rules();
std::vector<Rule> conv_rules();
std::vector<Rule> matmul_rules();
std::vector<Rule> attention_rules();
std::vector<Rule> special_rules();
std::vector<Rule> rows_rules();
std::vector<Rule> pointwise_rules();

/// Why no kernel of ours can compute the operation, as the end of a sentence; none if one can.
std::optional<std::string> why_not_special(const Graph& graph, Value value);

}  // namespace kn::cuda
