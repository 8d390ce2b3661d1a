// Which step of a plan is wrong: every stored value against the CPU, with the step's inputs as the
// device had them.
//
//     for (const StepError& e : compare_steps(plan, inputs, executor.run_stored(inputs)))
//         if (!e.fits) std::puts(e.message.c_str());
#pragma once

#include <string>
#include <vector>

#include <kn/cuda_eval/plan.h>
#include <kn/testing/compare.h>

namespace kn::tool {

struct StepError {
    std::size_t step = 0;
    Value value;
    /// Over the value's peak: against the CPU fed with the step's stored inputs, which is the
    /// step's own error, and against the CPU's whole run, which is what has gathered up to here.
    double own = 0, gathered = 0;
    bool fits = true;
    std::string message;  ///< why not
};

struct CompareOptions {
    double rtol = -1, atol_of_peak = -1;  ///< below 0: step_tolerance
};

/// What one step may lose by rounding: a few units of the narrowest type it computes in, over the
/// peak.
testing::Tolerance step_tolerance(DType dtype, Precision precision);

/// Runs plan.graph on the CPU, then every step's part of it, in its own types and in f64: a step
/// fits if it agrees with one of the two (kernels may keep more digits inside than the graph says);
/// one that rounds to integers also if inputs two units away explain it. `stored` as
/// Executor::run_stored gives it.
std::vector<StepError> compare_steps(const cuda::Plan& plan, const std::vector<Tensor>& inputs,
                                     const std::vector<std::pair<Value, Tensor>>& stored,
                                     const CompareOptions& options = {});

}  // namespace kn::tool
