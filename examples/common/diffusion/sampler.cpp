#include <algorithm>
#include <cmath>

#include "common/diffusion/scheduler.h"

namespace diffusion {

Source slot(std::size_t index) {
    return static_cast<Source>(static_cast<std::size_t>(Source::Slot0) + index);
}

bool Step::uses_noise() const {
    return std::ranges::any_of(next, [](const Term& t) { return t.source == Source::Noise; });
}

std::vector<float> Sampler::scaled(std::size_t i, std::span<const float> sample) const {
    std::vector<float> out(sample.begin(), sample.end());
    const double scale = schedule_.steps[i].input_scale;
    if (scale != 1)
        for (float& v : out) v = static_cast<float>(v * scale);
    return out;
}

// Each picture is clamped to its own quantile and scaled to [-1, 1] by it.
void Sampler::threshold(std::vector<float>& values) const {
    const std::size_t size = values.size() / batch_;
    for (std::size_t picture = 0; picture < batch_; picture++) {
        const std::span<float> part = std::span(values).subspan(picture * size, size);
        std::vector<float> sorted(part.begin(), part.end());
        for (float& v : sorted) v = std::abs(v);
        std::ranges::sort(sorted);
        const double at = schedule_.threshold_ratio * static_cast<double>(size - 1);
        const auto low = static_cast<std::size_t>(at);
        const std::size_t high = std::min(low + 1, size - 1);
        const double quantile = sorted[low] + (at - static_cast<double>(low)) *
                                                  (static_cast<double>(sorted[high]) - sorted[low]);
        const auto limit =
            static_cast<float>(std::min(std::max(quantile, 1.0), schedule_.threshold_max));
        for (float& v : part) v = std::clamp(v, -limit, limit) / limit;
    }
}

void Sampler::step(std::size_t i, std::span<const float> output, std::vector<float>& sample,
                   const NoiseSource& noise) {
    const Step& step = schedule_.steps[i];
    const std::size_t size = sample.size();
    std::vector<float> converted(size);
    for (std::size_t k = 0; k < size; k++)
        converted[k] =
            static_cast<float>(step.from_sample * sample[k] + step.from_output * output[k]);
    if (step.threshold) threshold(converted);
    if (step.clamp)
        for (float& v : converted)
            v = std::clamp(v, -static_cast<float>(*step.clamp), static_cast<float>(*step.clamp));
    if (step.save_sample) saved_ = sample;
    if (step.store) slots_[*step.store] = converted;
    std::vector<float> fresh;
    if (step.uses_noise()) {
        fresh.resize(size);
        noise(fresh);
    }
    std::vector<double> sum(size, 0.0);
    for (const Term& term : step.next) {
        const float* from = nullptr;
        switch (term.source) {
            case Source::Sample:
                from = sample.data();
                break;
            case Source::Saved:
                from = saved_.data();
                break;
            case Source::Output:
                from = output.data();
                break;
            case Source::Converted:
                from = converted.data();
                break;
            case Source::Noise:
                from = fresh.data();
                break;
            case Source::Slot0:
            case Source::Slot1:
            case Source::Slot2:
            case Source::Slot3:
            case Source::Slot4:
            case Source::Slot5:
                from = slots_[static_cast<std::size_t>(term.source) -
                              static_cast<std::size_t>(Source::Slot0)]
                           .data();
                break;
        }
        for (std::size_t k = 0; k < size; k++) sum[k] += term.weight * from[k];
    }
    for (std::size_t k = 0; k < size; k++) sample[k] = static_cast<float>(sum[k]);
}

}  // namespace diffusion
