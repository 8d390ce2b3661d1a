#include "executor/tune_search.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace kn::cuda {

namespace {

// Pairs are timed by the round until it is clear.
// Of few pairs, the deviations may be small by chance.
constexpr std::size_t pairs_a_round = 8, least_pairs = 16, most_pairs = 40;
constexpr double least_gain = 0.003;

double median(std::vector<double> values) {
    if (values.empty()) return 0;
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::ranges::nth_element(values, middle);
    if (values.size() % 2 == 1) return *middle;
    return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

std::vector<double> gains_of(const std::vector<TimedPair>& pairs) {
    std::vector<double> gains;
    for (const TimedPair& pair : pairs) gains.push_back(1 - pair.second / pair.first);
    return gains;
}

// 1.48 times the median deviation is a normal distribution's standard deviation, and the median's
// standard error 1.25 times the mean's.
double error_of_median(std::vector<double> values, double middle) {
    const auto count = static_cast<double>(values.size());
    for (double& value : values) value = std::abs(value - middle);
    return 1.25 * 1.48 * median(std::move(values)) / std::sqrt(count);
}

struct Compared {
    bool faster = false;
    double gain = 0;
};

Compared compared(const Comparison& compare, const Choices& first, const Choices& second) {
    std::vector<TimedPair> pairs;
    while (pairs.size() < most_pairs) {
        const auto more = compare(first, second, pairs_a_round);
        pairs.insert(pairs.end(), more.begin(), more.end());
        const Verdict verdict = more.empty() ? Verdict::NotFaster : judge(pairs);
        if (verdict != Verdict::Unclear) return {verdict == Verdict::Faster, gain_of(pairs)};
    }
    return {false, gain_of(pairs)};
}

// What was kept and, of other parts, what seemed faster.
Choices with_small_gains(const TuneResult& result) {
    Choices all = result.choices;
    std::vector<double> gains(all.size(), 0);
    for (const TuneTrial& trial : result.trials) {
        if (result.choices[trial.part] != 0 || trial.gain <= gains[trial.part]) continue;
        gains[trial.part] = trial.gain;
        all[trial.part] = trial.alternative;
    }
    return all;
}

}  // namespace

double gain_of(const std::vector<TimedPair>& pairs) { return median(gains_of(pairs)); }

Verdict judge(const std::vector<TimedPair>& pairs) {
    if (pairs.empty()) return Verdict::NotFaster;
    const std::vector<double> gains = gains_of(pairs);
    const double gain = median(gains), error = error_of_median(gains, gain);
    if (gain + 2 * error < least_gain) return Verdict::NotFaster;
    const bool faster = gain >= least_gain && gain > 4 * error && pairs.size() >= least_pairs;
    return faster ? Verdict::Faster : Verdict::Unclear;
}

std::vector<std::size_t> short_list(const std::vector<double>& alone) {
    constexpr std::size_t longest = 3;
    constexpr double within = 1.05;
    std::vector<std::size_t> order(alone.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(order, {}, [&](std::size_t i) { return alone[i]; });
    if (order.size() > longest) order.resize(longest);
    std::erase_if(order, [&, least = order.empty() ? 0 : alone[order[0]]](std::size_t i) {
        return i == 0 || !(alone[i] <= within * least);
    });
    return order;
}

TuneResult find_choices(const std::vector<TunePart>& parts, const Comparison& compare,
                        const std::function<double()>& seconds, const TuneBudget& budget) {
    std::vector<std::size_t> order(parts.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(order, std::greater<>(),
                             [&](std::size_t part) { return parts[part].time; });
    const Choices start(parts.size(), 0);
    TuneResult result{start, 0, {}};
    for (const std::size_t part : order)
        for (const std::size_t alternative : parts[part].candidates) {
            if (result.trials.size() >= budget.trials || seconds() >= budget.seconds) break;
            Choices changed = result.choices;
            changed[part] = alternative;
            const auto [faster, gain] = compared(compare, result.choices, changed);
            result.trials.push_back({part, alternative, gain, faster});
            if (faster) result.choices = std::move(changed);
        }
    // Each of them too little to be told from noise, together perhaps not.
    if (const Choices all = with_small_gains(result); all != result.choices)
        if (compared(compare, result.choices, all).faster) result.choices = all;
    if (result.choices == start) return result;
    const auto [faster, gain] = compared(compare, start, result.choices);
    result.gain = gain;
    if (!faster) {
        result.choices = start;
        result.gain = 0;
    }
    return result;
}

}  // namespace kn::cuda
