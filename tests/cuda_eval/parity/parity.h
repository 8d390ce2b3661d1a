// One graph, all devices: built once, run raw and optimised on the CPU and on a GPU (without one,
// its plan runs in the host shim), each leg judged against the same graph in f64.
//
//     Parity p;
//     p.output(softmax(p.input(DType::F32, {3, 70}), -1), Loses::Sum);
//     p.check();
#pragma once

#include <gtest/gtest.h>

#include <functional>

#include <kn/cuda_eval/plan.h>
#include <kn/graph.h>

#include "cuda_eval/parity/tolerances.h"

namespace kn::test {

/// What random elements look like.
enum class Fill { Normal, Positive, Unit, Small, Index };

/// Several elements of the numbers that break things: zeros, infinities, NaN, the largest and
/// smallest.
Tensor special_values(DType dtype, Ints shape);

class Parity {
  public:
    explicit Parity(std::uint64_t seed = 1) : random_(seed) {}

    Graph graph;

    /// A graph input with random elements. Index: whole numbers from 0 below `limit`.
    Var input(DType dtype, const Ints& shape, Fill fill = Fill::Normal, std::int64_t limit = 2);
    Var input(Tensor tensor);
    Var weight(DType dtype, const Ints& shape, Fill fill = Fill::Normal);
    void output(Var value, Loses loses);

    /// Also on the GPU with this precision policy (of an f32 graph).
    Parity& with(std::vector<Precision> policies) {
        policies_ = std::move(policies);
        return *this;
    }
    /// Not in the host shim: too slow there.
    Parity& gpu_only() {
        gpu_only_ = true;
        return *this;
    }
    /// Runs all legs; a leg that differs fails the test and names the output, its expression and,
    /// on a GPU, the first wrong step.
    void check();

    const std::vector<Tensor>& inputs() const { return inputs_; }

  private:
    Tensor elements(DType dtype, const Ints& shape, Fill fill, std::int64_t limit);

    Random random_;
    std::vector<Tensor> inputs_;
    std::vector<Loses> loses_;
    std::vector<Precision> policies_;
    bool gpu_only_ = false;
};

/// One way to run a static graph.
struct Leg {
    std::string name;
    Precision precision = Precision::F32;
    std::function<std::vector<Tensor>(const Graph&, const std::vector<Tensor>&)> run;
};
/// CPU raw and optimised, GPU (or host shim) raw and optimised, GPU optimised by the policies.
std::vector<Leg> legs(const std::vector<Precision>& policies = {}, bool gpu_only = false);

/// Whether sanitizers run the suites: fewer and smaller cases.
bool small_only();

std::vector<Tensor> in_f64(const Graph& graph, const std::vector<Tensor>& inputs);

}  // namespace kn::test
