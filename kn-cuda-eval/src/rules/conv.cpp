#include "rules/rules.h"

namespace kn::cuda {

std::vector<Rule> conv_rules() { return {}; }

}  // namespace kn::cuda
