// Runs plans without a GPU: kernels are built by the host's compiler, library steps are done by
// kn::cpu on the operands' memory.
//
//     std::vector<kn::Tensor> y = kn::cuda::run_plan_on_host(plan, {x});
//
// Shared objects are kept in a folder of $TMPDIR (or /tmp) by the hash of their source. One thread
// at a time. Memory a step has not written yet holds a pattern (NaN for floats).
#pragma once

#include <functional>
#include <span>
#include <vector>

#include <kn/cuda_eval/plan.h>

namespace kn::cuda {

/// The plan's outputs. Throws Error with the compiler's message where a kernel does not build.
std::vector<Tensor> run_plan_on_host(const Plan& plan, const std::vector<Tensor>& inputs);

/// The same; `after` is called after each step with the number of the step and a function that
/// gives the dense tensor behind a reference.
using ReadTensor = std::function<Tensor(const TensorRef&)>;
std::vector<Tensor> run_plan_on_host(
    const Plan& plan, const std::vector<Tensor>& inputs,
    const std::function<void(std::size_t step, const ReadTensor& read)>& after);

/// A strided tensor in host memory as a dense one, and back; `strides` in elements.
Tensor gather_strided(const std::byte* first, DType dtype, const Ints& shape, const Ints& strides);
void scatter_strided(const Tensor& tensor, std::byte* first, const Ints& strides);

/// A library step by kn::cpu; `addresses` of the first elements of the step's operands.
void run_on_host(const MatMulWork& work, std::span<std::byte* const> addresses);
void run_on_host(const CudnnWork& work, std::span<std::byte* const> addresses);

}  // namespace kn::cuda
