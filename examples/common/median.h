// The middle of some numbers.
#pragma once

#include <algorithm>
#include <vector>

namespace common {

/// Of an even count the mean of both in the middle; 0 of none.
inline double median(std::vector<double> values) {
    if (values.empty()) return 0;
    std::ranges::sort(values);
    const std::size_t middle = values.size() / 2;
    return values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

}  // namespace common
