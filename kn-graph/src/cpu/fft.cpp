#include <bit>

#include "cpu/fft.h"
#include "ir/unit_root.h"

namespace kn::cpu {

namespace {

/// Without the checks for infinities that operator* makes.
std::complex<double> multiply(std::complex<double> a, std::complex<double> b) {
    return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
}

}  // namespace

Fft::Fft(std::size_t length, bool inverse) : length_(length) {
    const auto root = [&](std::size_t numerator, std::size_t denominator) {
        const auto value = unit_root(numerator, denominator);
        return inverse ? value : std::conj(value);
    };
    if (std::has_single_bit(length)) {
        for (std::size_t k = 0; k < length / 2; ++k) roots_.push_back(root(k, length));
        return;
    }
    // k^2 / 2 modulo the length is what counts of the chirp's angle: kept exact by going up in odd
    // steps.
    std::size_t square = 0;
    for (std::size_t k = 0; k < length; ++k) {
        chirp_.push_back(root(square, 2 * length));
        square = (square + 2 * k + 1) % (2 * length);
    }
    const std::size_t padded = std::bit_ceil(2 * length - 1);
    convolve_.emplace_back(padded, false);
    convolve_.emplace_back(padded, true);
    chirp_spectrum_.assign(padded, 0);
    chirp_spectrum_[0] = std::conj(chirp_[0]);
    for (std::size_t k = 1; k < length; ++k)
        chirp_spectrum_[k] = chirp_spectrum_[padded - k] = std::conj(chirp_[k]);
    convolve_[0](chirp_spectrum_);
}

void Fft::operator()(std::vector<Complex>& data) const {
    if (chirp_.empty())
        power_of_two(data);
    else
        chirp(data);
}

void Fft::power_of_two(std::vector<Complex>& data) const {
    for (std::size_t i = 1, j = 0; i < length_; ++i) {
        std::size_t bit = length_ / 2;
        for (; j & bit; bit /= 2) j ^= bit;
        j ^= bit;
        if (i < j) std::swap(data[i], data[j]);
    }
    for (std::size_t half = 1; half < length_; half *= 2) {
        const std::size_t stride = length_ / (2 * half);
        for (std::size_t start = 0; start < length_; start += 2 * half) {
            for (std::size_t k = 0; k < half; ++k) {
                const Complex a = data[start + k];
                const Complex b = multiply(data[start + half + k], roots_[k * stride]);
                data[start + k] = a + b;
                data[start + half + k] = a - b;
            }
        }
    }
}

void Fft::chirp(std::vector<Complex>& data) const {
    std::vector<Complex> padded(chirp_spectrum_.size());
    for (std::size_t k = 0; k < length_; ++k) padded[k] = multiply(data[k], chirp_[k]);
    convolve_[0](padded);
    for (std::size_t k = 0; k < padded.size(); ++k)
        padded[k] = multiply(padded[k], chirp_spectrum_[k]);
    convolve_[1](padded);
    const double scale = 1.0 / static_cast<double>(padded.size());
    for (std::size_t k = 0; k < length_; ++k) data[k] = multiply(padded[k], chirp_[k]) * scale;
}

}  // namespace kn::cpu
