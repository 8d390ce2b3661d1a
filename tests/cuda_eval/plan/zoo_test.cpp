// Every network of the zoo planned for an H200 in every precision, and every kernel compiled.
#include <dlfcn.h>
#include <fmt/core.h>

#include <map>
#include <set>

#include <kn/cuda_sys/nvrtc.h>

#include "codegen/emit.h"
#include "cuda_eval/plan/support.h"
#include "executor/kernels.h"

namespace kn::test {

namespace {

using namespace kn::cuda;

// What may be refused: control flow and sizes that the data decide.
bool may_be_refused(const std::string& reason) {
    std::size_t lines = 0, allowed = 0;
    for (std::size_t at = reason.find('\n'); at != std::string::npos;
         at = reason.find('\n', at + 1)) {
        lines++;
        const std::string line = reason.substr(at + 1, reason.find('\n', at + 1) - at - 1);
        allowed += line.find("control flow") != std::string::npos ||
                   line.find("decides sizes") != std::string::npos;
    }
    return lines > 0 && lines == allowed;
}

// The plan's own rules: operands inside their buffers, every output written, lifetimes right.
void expect_sound(const Plan& plan) {
    std::set<std::uint32_t> written;
    for (const Step& step : plan.steps) {
        for (const Operand& operand : step.operands) {
            const TensorRef& t = operand.tensor;
            std::int64_t low = t.offset, high = t.offset;
            bool empty = false;
            for (std::size_t i = 0; i < t.shape.size(); i++) {
                empty = empty || t.shape[i] == 0;
                (t.strides[i] < 0 ? low : high) += (t.shape[i] - 1) * t.strides[i];
            }
            const Buffer& buffer = plan.buffers.at(t.buffer);
            const auto end = static_cast<std::size_t>(high + 1) * size_of(t.dtype);
            EXPECT_TRUE(empty || (low >= 0 && end <= buffer.bytes))
                << step.name << " " << operand.role << " " << to_string(t);
            const bool fresh =
                buffer.kind == Buffer::Kind::Arena || buffer.kind == Buffer::Kind::Output;
            const bool unwritten = fresh && !empty && !written.count(t.buffer);
            EXPECT_FALSE(operand.access == Access::Read && unwritten)
                << step.name << " reads b" << t.buffer << " before anybody writes it";
        }
        for (const Operand& operand : step.operands)
            if (operand.access != Access::Read) written.insert(operand.tensor.buffer);
    }
    for (const Step& step : plan.steps)
        if (const auto* cudnn = std::get_if<CudnnWork>(&step.work)) {
            const auto described = operands(cudnn->problem);
            for (std::size_t i = 0; i < described.size(); i++) {
                EXPECT_EQ(described[i].tensor.dims, step.operands.at(i).tensor.shape);
                EXPECT_EQ(described[i].tensor.strides, step.operands.at(i).tensor.strides);
            }
        }
    for (const TensorRef& output : plan.outputs)
        EXPECT_TRUE(plan.buffers[output.buffer].bytes == 0 || written.count(output.buffer));
}

// The kernels of all plans, each once.
class Kernels {
  public:
    void add(const Plan& plan) {
        for (const PlanKernel& kernel : plan.kernels)
            if (seen_.insert(kernel.source).second) kernels_.push_back(kernel);
    }
    // The message of what does not compile shows the kernel at fault alone.
    void compile_all() {
        constexpr std::size_t together = 64;
        for (std::size_t i = 0; i < kernels_.size(); i += together) {
            const auto begin = kernels_.begin() + static_cast<std::ptrdiff_t>(i);
            const auto count = std::min(together, kernels_.size() - i);
            try {
                compile_kernels({begin, begin + static_cast<std::ptrdiff_t>(count)},
                                {.arch = "sm_90", .prelude = kernel_prelude()});
            } catch (const CompileError& error) {
                ADD_FAILURE() << error.what();
            }
        }
    }
    std::size_t size() const { return kernels_.size(); }

  private:
    std::set<std::string> seen_;
    std::vector<PlanKernel> kernels_;
};

// Calls `use` with every case's graph; KN_ZOO=NAME: of the cases whose name contains NAME alone.
void for_each_case(const std::function<void(const std::string&, const Graph&)>& use) {
    const char* only = std::getenv("KN_ZOO");
    for (const auto& folder : zoo_cases()) {
        const std::string name = folder.filename().string();
        if (only && name.find(only) == std::string::npos) continue;
        std::shared_ptr<const Graph> graph;
        ASSERT_NO_THROW(graph = case_graph(folder)) << name;
        if (graph) use(name, *graph);
    }
}

class Zoo : public testing::TestWithParam<std::vector<Precision>> {};

TEST_P(Zoo, IsPlannedAndItsKernelsCompile) {
    Kernels kernels;
    std::size_t planned = 0, refused = 0;
    std::map<std::string, std::size_t> steps;
    for_each_case([&](const std::string& name, const Graph& graph) {
        for (const Precision precision : GetParam()) {
            const std::string where = name + " " + name_of(precision);
            SCOPED_TRACE(where);
            try {
                const Plan plan = cuda::plan(graph, h200(), {.precision = precision});
                expect_sound(plan);
                kernels.add(plan);
                planned++;
                for (const Step& step : plan.steps) steps[step.name]++;
            } catch (const GraphError& error) {
                refused++;
                EXPECT_TRUE(may_be_refused(error.what())) << error.what();
                fmt::print("refused {}: {}\n", where, error.what());
            } catch (const std::exception& error) {
                ADD_FAILURE() << error.what();
            }
        }
    });
    kernels.compile_all();
    fmt::print("{} planned, {} refused, {} kernels compiled; steps:", planned, refused,
               kernels.size());
    for (const auto& [name, count] : steps) fmt::print(" {} {}", count, name);
    fmt::print("\n");
}

INSTANTIATE_TEST_SUITE_P(Precisions, Zoo,
                         testing::Values(std::vector{Precision::F32, Precision::TF32},
                                         std::vector{Precision::F16}, std::vector{Precision::BF16}),
                         [](const auto& test) { return name_of(test.param.front()); });

// Attention kernels are compiled at run time, so that cuDNN names them only where a driver is.
TEST(ZooAttention, IsWhatCudnnTakes) {
    if (!dlopen("libcuda.so.1", RTLD_LAZY))
        GTEST_SKIP() << "there is no libcuda.so.1; the test fake_driver runs this with a fake one";
    std::set<std::string> seen;
    for_each_case([&](const std::string& name, const Graph& graph) {
        SCOPED_TRACE(name);
        Plan plan;
        try {
            plan = cuda::plan(graph, h200(), {.precision = Precision::F16});
        } catch (const GraphError&) {
            return;  // the test above says whether that may be
        }
        for (const Step& step : plan.steps) {
            const auto* cudnn = std::get_if<CudnnWork>(&step.work);
            if (!cudnn || !std::holds_alternative<SdpaDesc>(cudnn->problem)) continue;
            if (!seen.insert(to_text(cudnn->problem)).second) continue;
            CudnnLimits limits;
            limits.max_workspace = 0;
            for (const Operand& operand : step.operands)
                if (operand.access == Access::Scratch)
                    limits.max_workspace = plan.buffers[operand.tensor.buffer].bytes;
            EXPECT_NO_THROW(list_candidates(cudnn->problem, plan.device, limits))
                << to_text(cudnn->problem);
        }
    });
    fmt::print("{} problems\n", seen.size());
}

}  // namespace

}  // namespace kn::test
