#include "host_backend.h"

#include <cstdio>
#include <cstdlib>

#include <fmt/core.h>

#include <kn/graph/cpu.h>
#include <kn/testing/compare.h>

#include "host_shim.h"

namespace kn::cuda {

namespace {

class HostExecutable : public Executable {
  public:
    explicit HostExecutable(Plan plan) : plan_(std::move(plan)) {}
    std::vector<Tensor> run(const std::vector<Tensor>& inputs) override {
        if (std::getenv("KN_DIVERGENCE"))
            if (const std::string text = first_divergence(plan_, inputs); !text.empty())
                std::printf("%s\n", text.c_str());
        return run_plan_on_host(plan_, inputs);
    }
    std::size_t peak_bytes() const override { return plan_.arena_bytes; }

  private:
    Plan plan_;
};

}  // namespace

std::unique_ptr<Executable> HostBackend::prepare(std::shared_ptr<const Graph> graph,
                                                 const BackendOptions& options) {
    return std::make_unique<HostExecutable>(
        plan(*graph, device_, {.precision = options.precision}));
}

std::string first_divergence(const Plan& plan, const std::vector<Tensor>& inputs) {
    const auto expected = cpu::Executor(std::shared_ptr<const Graph>(plan.graph)).run_all(inputs);
    std::string result;
    run_plan_on_host(plan, inputs, [&](std::size_t i, const ReadTensor& read) {
        if (!result.empty()) return;
        const Step& step = plan.steps[i];
        for (const Value& value : step.produces) {
            for (const auto& [stored, tensor] : plan.stored) {
                if (stored.index != value.index) continue;
                Value source = value;
                std::size_t number = 0;
                if (const auto* r = plan.graph->get_if<op::Result>(value)) {
                    source = r->source;
                    number = static_cast<std::size_t>(r->index);
                }
                const auto& results = expected.at(source.index);
                if (results.size() <= number) continue;
                const auto difference =
                    testing::compare(read(tensor), results[number],
                                     testing::default_tolerance(plan.graph->dtype(value)));
                if (difference.equal) continue;
                result =
                    fmt::format("step {} {} %{} {}: {}", i, step.name, value.index,
                                kn::to_string((*plan.graph)[value].operation), difference.message);
                if (const auto* work = std::get_if<KernelWork>(&step.work)) {
                    const std::string& source_text = plan.kernels[work->kernel].source;
                    const auto end = source_text.rfind("#endif  // KN_PRELUDE");
                    result += source_text.substr(end == std::string::npos ? 0 : end);
                }
                return;
            }
        }
    });
    return result;
}

}  // namespace kn::cuda
