#include "cache/digest.h"

#include <bit>
#include <cstring>

namespace kn::cuda {

namespace {

constexpr std::uint64_t odd_a = 0x9e3779b97f4a7c15ull, odd_b = 0xc2b2ae3d27d4eb4full;

// The finaliser of splitmix64: every input bit reaches every output bit.
std::uint64_t mix(std::uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

// Each word is multiplied into a running state by an odd number, so that no state is lost.
std::uint64_t absorb(std::uint64_t state, std::uint64_t odd, std::string_view bytes) {
    const auto step = [&](std::uint64_t word) {
        state = std::rotl((state ^ mix(word + odd)) * odd, 29) + odd;
    };
    while (bytes.size() >= 8) {
        std::uint64_t word;
        std::memcpy(&word, bytes.data(), 8);
        step(word);
        bytes.remove_prefix(8);
    }
    std::uint64_t tail = 0;
    if (!bytes.empty()) std::memcpy(&tail, bytes.data(), bytes.size());
    step(tail);
    step(bytes.size());
    return state;
}

}  // namespace

std::uint64_t checksum(std::string_view bytes) { return mix(absorb(bytes.size(), odd_a, bytes)); }

std::string digest(std::initializer_list<std::string_view> parts) {
    std::uint64_t state[2] = {parts.size(), ~std::uint64_t{parts.size()}};
    for (const std::string_view part : parts) {
        state[0] = absorb(state[0] + part.size(), odd_a, part);
        state[1] = absorb(state[1] ^ part.size(), odd_b, part);
    }
    std::string text;
    for (const std::uint64_t half : {mix(state[0]), mix(state[1] + odd_a)})
        for (int shift = 60; shift >= 0; shift -= 4)
            text += "0123456789abcdef"[(half >> shift) & 15];
    return text;
}

}  // namespace kn::cuda
