// Steps of handwritten kernels: src/kernels/NAME.cu holds the body of a kernel; what depends on the
// operands (types, strides, sizes) is written in front of it as local constants and functions.
//
//     HandKernel kernel(placement, "cumulative_lane");
//     kernel.read("x", x, {{0, 2}, {1}});        // x(i0, i1): i0 runs over axes 0 and 2
//     kernel.write("store", y, {{0, 2}, {1}});   // store(i0, i1, value)
//     kernel.constant("kLength", x.shape[1]);
//     kernel.add_step(group, "cumulative", blocks, 256);
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "codegen/emit.h"
#include "planner/ceil_div.h"
#include "planner/placement.h"

namespace kn::cuda {

/// The axes that each index of an accessor runs over, row-major; an empty list: an index that is
/// always 0.
using AxisGroups = std::vector<Ints>;

class HandKernel {
  public:
    HandKernel(Placement& placement, std::string_view text_name);

    /// NAME(i0, i1, ...) gives the element in the type its arithmetic is done in, NAME_at(...) its
    /// address; NAME_t is the stored type. Without groups there is an index for each axis.
    void read(const std::string& name, const TensorRef& tensor, AxisGroups groups = {});
    /// NAME(i0, i1, ..., value) stores a value of the type arithmetic is done in, NAME_at(...) is
    /// the address.
    void write(const std::string& name, const TensorRef& tensor, AxisGroups groups = {},
               Access access = Access::Write);
    /// NAME is the address of the first element.
    void pointer(const std::string& name, const TensorRef& tensor, Access access);
    void constant(const std::string& name, std::int64_t value);
    /// using NAME = type
    void type(const std::string& name, const std::string& type);
    /// A statement or several.
    void line(const std::string& text);
    /// const auto NAME = [&](parameters) { return expression; };
    void function(const std::string& name, const std::string& parameters,
                  const std::string& expression);

    /// Of dynamic shared memory, the body's KN_DYNAMIC_SHARED, and how many blocks a multiprocessor
    /// is to hold.
    void set_block(std::int64_t shared_bytes, int blocks_per_sm) {
        shared_bytes_ = static_cast<std::size_t>(shared_bytes);
        blocks_per_sm_ = blocks_per_sm;
    }

    Code& code() { return code_; }
    KernelOperands& operands() { return operands_; }
    Placement& placement() { return placement_; }

    /// `last`: the group's outputs are complete after this step.
    void add_step(const Group& group, const std::string& name, std::int64_t blocks,
                  unsigned threads, bool last = true);

  private:
    /// "i0 * 12 + i1" and the list "Int i0, Int i1".
    std::pair<std::string, std::string> offset(const TensorRef& tensor, const AxisGroups& groups);
    void declare(const std::string& name, const TensorRef& tensor, Access access,
                 const AxisGroups& groups, bool reads);

    Placement& placement_;
    std::string_view text_;
    Code code_;
    KernelOperands operands_;
    std::size_t shared_bytes_ = 0;
    int blocks_per_sm_ = 0;
};

/// Where the operand of an own kernel can be read by strides; made by a copy where it cannot.
TensorRef operand_of(Placement& placement, Value value);
/// A result's place; none where nobody wants it.
std::optional<TensorRef> result_of(const Placement& placement, const Group& group,
                                   std::size_t index);

/// All axes but one, then that one: what lanes along an axis are.
AxisGroups lanes_along(std::size_t rank, std::int64_t axis);
std::int64_t elements_of(const TensorRef& tensor);
/// The element's distance from the first, as C text.
std::string offset_text(const Ints& strides, const Index& index);
/// The type sums are made in: float, double, long long.
std::string sum_type(DType dtype);

/// For measurements and tests: whether this thread's plans multiply attention in float32 on the
/// tensor cores, where these can.
std::optional<bool>& forced_attention_products();

void lower_direct_conv(Placement& placement, const Group& group);
void lower_direct_attention(Placement& placement, const Group& group);
void lower_top_k(Placement& placement, const Group& group);
void lower_cumulative(Placement& placement, const Group& group);
void lower_scatter(Placement& placement, const Group& group);
void lower_recurrent(Placement& placement, const Group& group);
void lower_dft(Placement& placement, const Group& group);

}  // namespace kn::cuda
