// How the axes of a group's output follow those of what the group reads.
#pragma once

#include <optional>
#include <vector>

#include "planner/placement.h"

namespace kn::cuda {

/// Two stored values of which a group computes one from the other, axis by axis.
struct AxisLink {
    Value output;
    Value read;
    Ints to_output;  ///< the output's axis for each axis of `read`
};

/// All links of a group: reads whose axes correspond to the output's one to one.
std::vector<AxisLink> axis_links(const Grouping& grouping, const Group& group);

/// The order of the output's axes that follows an order of the read's, and the reverse.
AxisOrder order_of_output(const AxisLink& link, const AxisOrder& read);
AxisOrder order_of_read(const AxisLink& link, const AxisOrder& output);

/// The stored value that `value` is a view of, and the order in which its axes would have to lie
/// for `value` to be dense in `order`; none if no order does that.
std::optional<std::pair<Value, AxisOrder>> order_at_root(const Grouping& grouping, Value value,
                                                         const AxisOrder& order);

}  // namespace kn::cuda
