#include "common/torch_random.h"

#include <cmath>
#include <numbers>

namespace common {

float TorchRandom::uniform() {
    return static_cast<float>(engine_() & 0xFFFFFFu) * std::ldexp(1.0f, -24);
}

double TorchRandom::uniform_double() {
    const std::uint64_t high = engine_();
    const std::uint64_t bits = (high << 32) | engine_();
    return static_cast<double>(bits & ((std::uint64_t{1} << 53) - 1)) * std::ldexp(1.0, -53);
}

double TorchRandom::one_normal() {
    if (spare_) {
        const double value = *spare_;
        spare_.reset();
        return value;
    }
    const double angle = 2 * std::numbers::pi * uniform_double();
    const double radius = std::sqrt(-2 * std::log1p(-uniform_double()));
    spare_ = radius * std::sin(angle);
    return radius * std::cos(angle);
}

void TorchRandom::fill_16(std::span<float> block) {
    for (std::size_t i = 0; i < 8; i++) {
        const float radius = std::sqrt(-2 * std::log(1 - block[i]));
        const float angle = 2 * std::numbers::pi_v<float> * block[i + 8];
        block[i] = radius * std::cos(angle);
        block[i + 8] = radius * std::sin(angle);
    }
}

void TorchRandom::normal(std::span<float> out) {
    if (out.size() < 16) {
        for (float& v : out) v = static_cast<float>(one_normal());
        return;
    }
    for (float& v : out) v = uniform();
    for (std::size_t i = 0; i + 16 <= out.size(); i += 16) fill_16(out.subspan(i, 16));
    if (out.size() % 16 == 0) return;
    const std::span<float> tail = out.last(16);
    for (float& v : tail) v = uniform();
    fill_16(tail);
}

}  // namespace common
