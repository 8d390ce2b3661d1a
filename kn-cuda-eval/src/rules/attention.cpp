#include "rules/rules.h"

namespace kn::cuda {

std::vector<Rule> attention_rules() { return {}; }

}  // namespace kn::cuda
