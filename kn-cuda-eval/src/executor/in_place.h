// A network on the device whose parts have alternatives, to time them alone and in their place.
//
// Steps are exchanged for others that do the same on the same buffers and the whole is captured
// again, which takes milliseconds where an executor for each form would take some tenths of a
// second and its memory.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <kn/cuda_eval/executor.h>
#include <kn/cuda_sys/event.h>
#include <kn/cuda_sys/graph.h>

#include "executor/launch.h"
#include "executor/tune_search.h"
#include "executor/tuned_choices.h"

namespace kn::cuda {

class InPlace {
  public:
    /// `plans` are the plan as the planner makes it and others interchangeable with it; `inputs`
    /// those of the runs. Compiles the kernels of all, and the libraries' candidates for
    /// Tuning::Full. Blocks.
    InPlace(std::vector<std::shared_ptr<const Plan>> plans, Device device,
            const std::vector<Tensor>& inputs);

    /// In the order of Choices; alternatives that seem worth a try by their time alone.
    std::vector<TunePart> parts();
    /// Milliseconds of a run, in pairs; a Comparison.
    std::vector<TimedPair> compare(const Choices& first, const Choices& second, std::size_t pairs);

    /// All choices that make up such a network, also those that are the planner's.
    TunedChoices choices_of(const Choices& choices) const;
    /// "128x256 4 stages instead of 128x128 5 stages for f16 256 x 256 x 512".
    std::string describe(const TuneTrial& trial) const;

  private:
    struct Alternative {
        std::string name;
        std::vector<std::pair<std::size_t, Launch>> steps;
    };
    struct Part {
        std::string problem;
        bool library = false;
        std::vector<Alternative> alternatives;
    };
    struct Form {
        Choices choices;
        std::unique_ptr<const GraphExec> graph;
    };

    Executor::State& state() { return *executor_.state_; }
    const Plan& plan() const { return *plans_[0]; }
    Part& part_of(const std::string& problem, bool library);
    void add_products();
    void add_library_steps();
    std::vector<std::shared_ptr<const Kernel>> load(const std::vector<const PlanKernel*>& kernels,
                                                    bool wait);
    /// Microseconds of all of a part's steps; infinite where they do not run.
    double us_alone(const Alternative& alternative);
    /// The network's steps become these.
    void take(const Choices& choices);
    void let_wait();
    const GraphExec& graph_of(const Choices& choices);
    double ms_of(const GraphExec& graph, int runs);

    std::vector<std::shared_ptr<const Plan>> plans_;
    Executor executor_;
    const bool waits_;  ///< at first
    std::vector<Launch> at_first_;
    std::vector<Part> parts_;
    std::vector<Overlap> overlaps_;  ///< the last part's alternatives; empty: there is no such part
    std::map<const Kernel*, const PlanKernel*> sources_;  ///< in plans_, as the planner wrote them
    std::map<const Kernel*, std::shared_ptr<const Kernel>> waiting_;
    std::vector<Form> forms_;
    Event start_, stop_;
};

}  // namespace kn::cuda
