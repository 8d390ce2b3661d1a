// Which of a network's parts to do otherwise, by runs of the whole network: what is fastest alone,
// in a warm cache and without neighbours, often is not in its place.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

namespace kn::cuda {

/// For each part of a network, the number of the alternative it takes; 0 is what it had at first.
using Choices = std::vector<std::size_t>;

/// What one run takes of two forms of a network, in the same unit; timed close to each other.
struct TimedPair {
    double first = 0, second = 0;
};

/// Times so many pairs; none where the second form does not run.
using Comparison = std::function<std::vector<TimedPair>(const Choices& first, const Choices& second,
                                                        std::size_t pairs)>;

/// The median over the pairs of the part of the time that the second form saves.
double gain_of(const std::vector<TimedPair>& pairs);

enum class Verdict {
    Faster,     ///< by 0.3 %, and by four times the noise, in 16 pairs or more
    NotFaster,  ///< by so much, however many more pairs are timed
    Unclear,
};
/// The noise is the standard error of the median, from the pairs' deviations from it.
Verdict judge(const std::vector<TimedPair>& pairs);

/// Of alternatives timed alone, those worth a try in place, the fastest first: of the three fastest
/// those within 5 % of the fastest. Number 0, which the network has already, is not among them.
std::vector<std::size_t> short_list(const std::vector<double>& alone);

/// Alternatives of a part in the order in which they are tried; parts with more of the network's
/// time are tried earlier.
struct TunePart {
    double time = 0;
    std::vector<std::size_t> candidates;
};

/// No trial begins when so many were made, or after so many seconds.
struct TuneBudget {
    std::size_t trials = 64;
    double seconds = 20;
};

struct TuneTrial {
    std::size_t part = 0, alternative = 0;
    double gain = 0;  ///< over the best form before
    bool kept = false;  ///< at once
};

struct TuneResult {
    Choices choices;
    double gain = 0;  ///< of all that was kept, by the last comparison
    std::vector<TuneTrial> trials;
};

/// Changes one part at a time, and keeps what is faster than the best form before; then, all at
/// once, the parts for which something seemed faster by less than the noise. What was kept is
/// compared with the first form once more: if it is not faster, everything stays as it was. These
/// two comparisons come after the budget. `seconds` tells the time.
TuneResult find_choices(const std::vector<TunePart>& parts, const Comparison& compare,
                        const std::function<double()>& seconds, const TuneBudget& budget = {});

}  // namespace kn::cuda
