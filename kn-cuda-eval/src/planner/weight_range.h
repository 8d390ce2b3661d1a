// How large the weights of a network are, which some kernels depend on.
#pragma once

#include <future>
#include <memory>
#include <vector>

#include <kn/graph/graph.h>

namespace kn::cuda {

/// Plans assume that weights are as small as they should be, and find out meanwhile.
///
///     WeightChecks checks;
///     Plan plan = ...;                      // asks checks.stay_within(...) as often as it likes
///     if (!checks.hold()) plan = ...;       // once more: now it is known
class WeightChecks {
  public:
    using Parts = std::vector<std::shared_ptr<const ConstantData>>;

    /// Whether no element, as the network's file has it, exceeds `limit`, and none is infinite or
    /// NaN; true, too, where other threads only now begin to look.
    bool stay_within(const Parts& parts, float limit);
    /// Whether all that was assumed is so; blocks. The answers are known for as long as the elements
    /// live.
    bool hold();

  private:
    std::vector<std::future<bool>> assumed_;
};

}  // namespace kn::cuda
