#include "planner/weight_range.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <span>

#include "planner/constant_origin.h"

namespace kn::cuda {

namespace {

// The largest of the numbers without their signs; in lanes, so that compilers use vectors.
template <class Number>
Number largest(const std::byte* elements, std::size_t count, Number magnitude) {
    constexpr std::size_t lanes = 32 / sizeof(Number);
    std::array<Number, lanes> found{};
    std::array<Number, lanes> some{};
    for (std::size_t at = 0; at < count; at += lanes) {
        const std::size_t here = std::min(lanes, count - at);
        if (here < lanes) some = {};
        std::memcpy(some.data(), elements + at * sizeof(Number), here * sizeof(Number));
        for (std::size_t i = 0; i < lanes; i++) {
            const auto x = static_cast<Number>(some[i] & magnitude);
            found[i] = found[i] > x ? found[i] : x;
        }
    }
    return *std::ranges::max_element(found);
}

template <class Number>
float largest_of(const Tensor& tensor, int shift, Number magnitude) {
    const std::span<const std::byte> bytes = tensor.bytes();
    const Number found = largest<Number>(bytes.data(), bytes.size() / sizeof(Number), magnitude);
    return std::bit_cast<float>(static_cast<std::uint32_t>(found) << shift);
}

float largest_of(const Tensor& tensor) {
    constexpr std::int16_t half = 0x7fff;
    constexpr std::int32_t single = 0x7fffffff;
    switch (tensor.dtype()) {
        case DType::F32: return largest_of(tensor, 0, single);
        case DType::BF16: return largest_of(tensor, 16, half);
        case DType::F16: {
            // The exponent's bias is another.
            constexpr int shift = 13;
            constexpr float bias = 0x1p112f, infinite = 65536;
            const float found = largest_of(tensor, shift, half) * bias;
            return found < infinite ? found : std::numeric_limits<float>::infinity();
        }
        default: return largest_of(tensor.cast(DType::F32), 0, single);
    }
}

struct Known {
    std::weak_ptr<const std::byte> elements;
    float largest;
};

struct Registry {
    std::mutex mutex;
    std::map<const void*, Known> known;
};

Registry& registry() {
    static Registry instance;
    return instance;
}

std::optional<float> known_largest(const Tensor& tensor) {
    Registry& all = registry();
    const std::lock_guard lock(all.mutex);
    const auto found = all.known.find(tensor.identity());
    if (found == all.known.end() || found->second.elements.expired()) return std::nullopt;
    return found->second.largest;
}

float find_largest(const Tensor& tensor) {
    if (const auto known = known_largest(tensor)) return *known;
    const float largest = largest_of(tensor);
    Registry& all = registry();
    const std::lock_guard lock(all.mutex);
    std::erase_if(all.known, [](const auto& entry) { return entry.second.elements.expired(); });
    all.known.insert_or_assign(tensor.identity(), Known{tensor.storage(), largest});
    return largest;
}

}  // namespace

bool WeightChecks::stay_within(const Parts& parts, float limit) {
    bool all_known = true;
    for (const auto& part : parts) {
        const auto known = known_largest(origin(*part));
        if (known && !(*known <= limit)) return false;
        all_known = all_known && known.has_value();
    }
    if (all_known) return true;
    assumed_.push_back(std::async(std::launch::async | std::launch::deferred, [parts, limit] {
        return std::ranges::all_of(
            parts, [&](const auto& part) { return find_largest(origin(*part)) <= limit; });
    }));
    return true;
}

bool WeightChecks::hold() {
    bool all = true;
    for (std::future<bool>& assumed : assumed_) all = assumed.get() && all;
    assumed_.clear();
    return all;
}

}  // namespace kn::cuda
