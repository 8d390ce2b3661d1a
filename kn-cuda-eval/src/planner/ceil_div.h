// How many pieces of one size cover a count.
#pragma once

#include <cstdint>

namespace kn::cuda {

/// count / each, rounded up; count >= 0, each > 0.
constexpr std::int64_t ceil_div(std::int64_t count, std::int64_t each) {
    return (count + each - 1) / each;
}

}  // namespace kn::cuda
