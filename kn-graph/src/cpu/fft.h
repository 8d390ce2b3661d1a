// Fast Fourier transform of any length, in double precision.
#pragma once

#include <complex>
#include <vector>

namespace kn::cpu {

/// A plan for one length; several threads may use it at once.
class Fft {
  public:
    /// length >= 1. inverse: with exp(+2 pi i ...), not divided by the length.
    Fft(std::size_t length, bool inverse);

    /// In place. data.size() is the length.
    void operator()(std::vector<std::complex<double>>& data) const;

  private:
    using Complex = std::complex<double>;
    void power_of_two(std::vector<Complex>& data) const;
    void chirp(std::vector<Complex>& data) const;

    std::size_t length_;
    std::vector<Complex> roots_;  // exp(-+2 pi i k / length), for powers of two the first half
    // Of other lengths (Bluestein): exp(-+pi i k^2 / length), the transform of its conjugate, and
    // the plans that convolve with it.
    std::vector<Complex> chirp_;
    std::vector<Complex> chirp_spectrum_;
    std::vector<Fft> convolve_;  // forward, inverse
};

}  // namespace kn::cpu
