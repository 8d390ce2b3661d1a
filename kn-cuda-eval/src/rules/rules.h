// The planner's rules by family; src/rules/<family>.cpp. The table tries them in the order of
// table.cpp.
#pragma once

#include "planner/group.h"

namespace kn::cuda {

std::vector<Rule> output_rules();
std::vector<Rule> conv_rules();
std::vector<Rule> matmul_rules();
std::vector<Rule> attention_rules();
std::vector<Rule> special_rules();
std::vector<Rule> rows_rules();
std::vector<Rule> pointwise_rules();

}  // namespace kn::cuda
