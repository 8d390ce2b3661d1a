// Where stored values lie, and views of them.
#pragma once

#include <optional>
#include <set>
#include <unordered_map>

#include "planner/group.h"
#include "planner/weight_range.h"

namespace kn::cuda {

/// Physical order of a stored value's axes, outermost first; {0, 1, 2, 3} is row-major, {0, 2, 3,
/// 1} NHWC.
using AxisOrder = Ints;

/// Chooses an order for every stored value by what the groups around it want, counting bytes
/// copied.
std::unordered_map<std::uint32_t, AxisOrder> choose_layouts(const Grouping& grouping);

/// Statistics of a matrix, as a norm of groups of columns of images wants them.
struct WantedParts {
    std::int64_t image_rows = 0, group_columns = 0;
};

/// Of each part, rows x columns elements of a matrix: their mean, and their squared distances from
/// it, [rows of the matrix / rows, its columns / columns, 2] in float32.
struct MatrixParts {
    std::int64_t rows = 0, columns = 0;
    TensorRef tensor;
};

class Placement {
  public:
    Placement(Plan& plan, const Grouping& grouping,
              const std::unordered_map<std::uint32_t, AxisOrder>& layouts, WeightChecks& weights);

    /// The stored value's tensor; throws InternalError if it is not stored.
    const TensorRef& stored(Value value) const;
    bool is_stored(Value value) const;

    /// The value as strides over a stored one (itself, or through Permute, Broadcast, Slice,
    /// Reshape, Window), if that can be.
    std::optional<TensorRef> view(Value value) const;

    /// A constant, or a Permute of one, in another dtype or axis order than its own, or a part of it
    /// (PlanConstant): a buffer of its own, made at upload.
    TensorRef constant(Value value, DType dtype, const AxisOrder& order,
                       Tf32Part part = Tf32Part::None);
    /// Of a convolution's weights, in F16: PlanConstant::winograd.
    TensorRef winograd(Value weight);
    /// Of a weight [k, n]: {n, k} dense with the factors of what is folded in, in the type in which
    /// these are rounded, or its sums [n, 2].
    TensorRef folded(Value weight, FoldedRows rows);
    /// A new arena buffer for a step's own use, dense in this order of axes (row-major where
    /// empty).
    TensorRef scratch(DType dtype, Ints shape, const std::string& name, AxisOrder order = {});
    /// A copy of the value in this order of axes, made by a pointwise step appended now; made once
    /// for each order.
    TensorRef copy_of(Value value, const AxisOrder& order);

    /// What somebody would like of a stored value besides itself, and what its step gives, if it
    /// can: of parts that images and groups are whole numbers of.
    void want_parts(Value value, WantedParts wanted);
    std::optional<WantedParts> wanted_parts(Value value) const;
    void give_parts(Value value, MatrixParts parts) { parts_[value.index] = std::move(parts); }
    std::optional<MatrixParts> parts(Value value) const;

    WeightChecks& weights() { return weights_; }
    Plan& plan() { return plan_; }
    const Plan& plan() const { return plan_; }
    const Graph& graph() const { return *plan_.graph; }

  private:
    void place_outputs(const Grouping& grouping);
    TensorRef place_constant(const PlanConstant& wanted, const std::string& name);

    Plan& plan_;
    WeightChecks& weights_;
    std::set<std::uint32_t> tf32_operands_;
    std::unordered_map<std::uint32_t, TensorRef> stored_;
    std::map<std::pair<std::uint32_t, AxisOrder>, TensorRef> copies_;
    std::unordered_map<std::uint32_t, WantedParts> wanted_parts_;
    std::unordered_map<std::uint32_t, MatrixParts> parts_;
};

/// 0, 1, ... rank - 1.
AxisOrder row_major(std::size_t rank);
/// Strides of a dense tensor whose axes are stored in this order.
Ints strides_for(const Ints& shape, const AxisOrder& order);

/// Appends the steps of a group to the plan. One overload set, src/lower/<kind>.cpp. Throws
/// GraphError if no step can be made.
void lower_group(Placement& placement, const Group& group);

}  // namespace kn::cuda
