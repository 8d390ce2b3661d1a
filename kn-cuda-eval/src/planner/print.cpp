#include <kn/cuda_eval/plan.h>

#include <fmt/core.h>

namespace kn::cuda {

std::string Plan::to_string() const {
    std::string out;
    for (std::size_t i = 0; i < steps.size(); i++)
        out += fmt::format("{} {}: {}\n", i, steps[i].name, steps[i].reason);
    return out;
}
std::string Plan::to_json() const { return "{}"; }
std::string Plan::to_dot() const { return "digraph {}"; }

}  // namespace kn::cuda
