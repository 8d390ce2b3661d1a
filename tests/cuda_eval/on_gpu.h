// What a GPU computes, beside the CPU in double.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include <kn/cuda_eval/executor.h>
#include <kn/graph/cpu.h>
#include <kn/graph/precision.h>
#include <kn/graph/random.h>
#include <kn/testing/compare.h>

#include "cuda_eval/product_bounds.h"

namespace kn::test {

/// A graph of one output on random inputs.
class InDouble {
  public:
    explicit InDouble(const Graph& graph)
        : inputs_(random_inputs(graph)),
          expected_(cpu::run(to_precision(graph, DType::F64), inputs_).at(0)) {}

    /// Runs the plan on GPU 0.
    void expect(const cuda::Plan& plan, const ProductBound& bound) const {
        const Tensor got = cuda::Executor(std::make_shared<const cuda::Plan>(plan), cuda::Device(0))
                               .run(inputs_)
                               .at(0);
        const auto difference = testing::compare(got.cast(DType::F32), expected_.cast(DType::F32),
                                                 {.rtol = 0, .atol_of_peak = bound.of_peak});
        EXPECT_TRUE(difference.equal)
            << name_of(bound.precision) << ": " << difference.message << "\n"
            << plan.to_string();
    }

  private:
    std::vector<Tensor> inputs_;
    Tensor expected_;
};

}  // namespace kn::test
