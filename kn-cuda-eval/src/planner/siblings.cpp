#include "planner/siblings.h"

#include <algorithm>
#include <set>

namespace kn::cuda {

std::size_t sibling_count(const Grouping& grouping, std::span<const Group> groups,
                          const std::function<std::int64_t(const Group&)>& slice) {
    constexpr std::size_t most = 8;  // so that a kernel has some tens of parameters
    std::set<std::uint32_t> computed;
    std::size_t count = 0;
    for (; count < std::min(groups.size(), most); ++count) {
        const Group& group = groups[count];
        if (group.kind != Group::Kind::Pointwise || slice(group) != slice(groups[0])) break;
        bool reads = false;
        for (const Value& value : reads_of(grouping, group))
            reads = reads || computed.count(value.index) > 0;
        if (reads) break;
        for (const Value& value : group.outputs) computed.insert(value.index);
    }
    return std::max<std::size_t>(count, 1);
}

}  // namespace kn::cuda
