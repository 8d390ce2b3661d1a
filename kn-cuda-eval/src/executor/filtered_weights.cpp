#include "executor/filtered_weights.h"

#include <algorithm>

namespace kn::cuda {

void filter_weights(const float* filter, std::size_t channels, float* positions) {
    constexpr std::size_t some = 32, pair = 2 * some;  // channels, and two positions of them
    for (std::size_t first = 0; first < channels; first += 2 * some)
        for (std::size_t line = 0; line < 3; line++)
            for (std::size_t half = 0; half < 2; half++, positions += 2 * pair) {
                const std::size_t from = first + half * some;
                if (from >= channels) continue;
                const float* const g = filter + line * 3 * channels + from;
                for (std::size_t i = 0; i < std::min(some, channels - from); i++) {
                    const float g0 = g[i], g1 = g[channels + i], g2 = g[2 * channels + i];
                    positions[i] = 2 * g0;
                    positions[some + i] = -(g0 + g1 + g2);
                    positions[pair + i] = g0 - g1 + g2;
                    positions[pair + some + i] = -2 * g2;
                }
            }
}

}  // namespace kn::cuda
