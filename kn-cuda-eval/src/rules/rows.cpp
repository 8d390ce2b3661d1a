#include "rules/rules.h"

namespace kn::cuda {

std::vector<Rule> rows_rules() { return {}; }

}  // namespace kn::cuda
