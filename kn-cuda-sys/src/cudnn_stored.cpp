#include "cudnn_stored.h"

#include <sstream>

#include "check.h"
#include "cudnn_functions.h"

namespace kn::cuda::detail {

namespace {
constexpr const char* magic_word = "kn-cudnn-plan";
}

std::string write_stored(const StoredPlan& plan) {
    const CudnnCandidate& c = plan.candidate;
    return fmt::format("{} {} {} {:d} {:d} {:d} {:d}\n{}\n{}", magic_word,
                       cudnn().cudnnGetVersion(), c.name, c.runtime_compiled, c.tensor_cores,
                       c.winograd, c.deterministic, plan.problem, plan.json);
}

StoredPlan read_stored(const std::string& serialized, const std::string& problem) {
    StoredPlan plan;
    CudnnCandidate& c = plan.candidate;
    std::istringstream text(serialized);
    std::string magic;
    std::size_t version = 0;
    text >> magic >> version >> c.name >> c.runtime_compiled >> c.tensor_cores >> c.winograd >>
        c.deterministic;
    text.ignore(1);
    std::getline(text, plan.problem);
    KN_CUDA_REQUIRE(text.good() && magic == magic_word, "load_plan", "this is no stored plan");
    KN_CUDA_REQUIRE(version == cudnn().cudnnGetVersion(), "load_plan",
                    "the plan is of cuDNN {}, this is {}", version, cudnn().cudnnGetVersion());
    KN_CUDA_REQUIRE(plan.problem == problem, "load_plan", "the plan computes {}, not {}",
                    plan.problem, problem);
    plan.json = serialized.substr(static_cast<std::size_t>(text.tellg()));
    return plan;
}

}  // namespace kn::cuda::detail
