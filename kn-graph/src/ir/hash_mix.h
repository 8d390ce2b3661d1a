// Hashes of several parts.
#pragma once

#include <cstddef>

namespace kn::detail {

/// The hash of what has the hash `seed`, with one more part (as boost::hash_combine does).
inline std::size_t hash_mix(std::size_t seed, std::size_t value) {
    return seed ^ (value + 0x9e3779b97f4a7c15ull + (seed << 6) + (seed >> 2));
}

}  // namespace kn::detail
