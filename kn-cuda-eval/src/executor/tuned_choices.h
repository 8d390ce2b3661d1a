// What tuned_plan() found out, as text for the cache on disk.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <kn/cuda_eval/plan.h>

namespace kn::cuda {

struct TunedChoices {
    std::map<std::string, std::string> tiles_of, algorithms_of;  ///< as PlanOptions has them
    std::optional<Overlap> overlap;                              ///< none: the caller's
    bool operator==(const TunedChoices&) const = default;
};

/// A line a choice.
std::string to_text(const TunedChoices& choices);
/// Nothing where the text is not one that to_text wrote.
std::optional<TunedChoices> parse_tuned(std::string_view text);

/// The plan's options with the choices; where the caller has set the overlap, that stays.
PlanOptions with_choices(PlanOptions options, const TunedChoices& choices);

/// Whether the plan's products have the tiles that the choices say, each of them said.
bool has_tiles(const Plan& plan, const TunedChoices& choices);

/// What the choices depend on, as a cache key: the steps of the plan that the planner makes by
/// itself in their order, what its options say already, the kind of GPU, the libraries' versions.
std::string tuning_key(const Plan& plan, const DeviceProperties& device);

}  // namespace kn::cuda
