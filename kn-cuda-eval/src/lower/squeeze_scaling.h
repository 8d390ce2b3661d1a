// Squeeze and excite's result as a scale and a shift of the image, where it is no more than that.
#pragma once

#include <optional>

#include "planner/group.h"

namespace kn::cuda {

/// y = squeezed * scale [+ shift] [+ what lies in y's place], or zeros instead of what is less.
struct SqueezeScaling {
    Value scale;  ///< has one number for each channel of an image, and so has the shift
    std::optional<Value> shift;
    bool relu = false;
};

/// The group's result, which has the roles of squeeze_of (lower/squeeze.h); none where it is
/// something else. `before`: what lies in its place.
std::optional<SqueezeScaling> find_scaling(const Graph& graph, const Group& group,
                                           const std::optional<Value>& before);

/// What each channel of the image adds to the group's product, where the mean is one of positions:
/// it may as well be added to the mean, and to what is added to the scaled product.
std::optional<Value> bias_of_image(const Graph& graph, const Group& group);

}  // namespace kn::cuda
