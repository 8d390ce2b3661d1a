// Normal numbers as PyTorch's CPU generator gives them, so that a seed makes the same picture here
// and there, on every device.
//
//     common::TorchRandom random(42);
//     random.normal(latents);          // torch.randn(...,
//     generator=torch.Generator().manual_seed(42))
//
// Mersenne Twister (mt19937) of the seed's low 32 bits; a uniform number is the low 24 bits of a
// draw over 2^24. The whole span is filled with those, then of every 16, numbers i and i + 8 become
// r cos(a) and r sin(a) with r = sqrt(-2 ln(1 - u[i])), a = 2 pi u[i + 8]. Where the size is no
// multiple of 16, the last 16 are drawn again. Fewer than 16 are made two at a time out of 53-bit
// numbers: r = sqrt(-2 ln(1 - u2)), a = 2 pi u1. Equal to PyTorch's to float rounding.
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <span>

namespace common {

class TorchRandom {
  public:
    explicit TorchRandom(std::uint64_t seed) : engine_(static_cast<std::uint32_t>(seed)) {}
    /// Fills with N(0, 1).
    void normal(std::span<float> out);

  private:
    float uniform();
    double uniform_double();
    double one_normal();
    void fill_16(std::span<float> block);

    std::mt19937 engine_;
    std::optional<double> spare_;
};

}  // namespace common
