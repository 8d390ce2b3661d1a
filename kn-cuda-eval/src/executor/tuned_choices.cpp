#include "executor/tuned_choices.h"

#include <algorithm>

#include <fmt/core.h>

#include "executor/fastest_overlap.h"

namespace kn::cuda {

namespace {

constexpr std::string_view first_line = "tuned in place 1\n";

// Up to `end`, which is removed too; nothing where there is no `end`.
std::optional<std::string_view> take(std::string_view& text, char end) {
    const std::size_t at = text.find(end);
    if (at == text.npos) return std::nullopt;
    const std::string_view taken = text.substr(0, at);
    text.remove_prefix(at + 1);
    return taken;
}

}  // namespace

std::string to_text(const TunedChoices& choices) {
    std::string text(first_line);
    const auto add = [&](const char* kind, const std::string& choice, const std::string& of) {
        text += fmt::format("{}\t{}\t{}\n", kind, choice, of);
    };
    for (const auto& [problem, tiles] : choices.tiles_of) add("tiles", tiles, problem);
    for (const auto& [problem, name] : choices.algorithms_of) add("algorithm", name, problem);
    if (choices.overlap) add("overlap", name_of(*choices.overlap), "");
    return text;
}

std::optional<TunedChoices> parse_tuned(std::string_view text) {
    if (!text.starts_with(first_line)) return std::nullopt;
    text.remove_prefix(first_line.size());
    TunedChoices choices;
    while (!text.empty()) {
        const auto kind = take(text, '\t'), choice = take(text, '\t'), of = take(text, '\n');
        if (!kind || !choice || !of) return std::nullopt;
        if (*kind == "tiles")
            choices.tiles_of.emplace(*of, *choice);
        else if (*kind == "algorithm")
            choices.algorithms_of.emplace(*of, *choice);
        else if (*kind == "overlap" && parse_overlap(std::string(*choice)))
            choices.overlap = parse_overlap(std::string(*choice));
        else
            return std::nullopt;
    }
    return choices;
}

PlanOptions with_choices(PlanOptions options, const TunedChoices& choices) {
    options.tiles = 0;
    options.tiles_of = choices.tiles_of;
    options.algorithms_of = choices.algorithms_of;
    if (!options.overlap) options.overlap = choices.overlap;
    return options;
}

bool has_tiles(const Plan& plan, const TunedChoices& choices) {
    return std::ranges::all_of(plan.steps, [&](const Step& step) {
        if (step.tiles.empty()) return true;
        const auto said = choices.tiles_of.find(step.problem);
        return said != choices.tiles_of.end() && said->second == step.tiles;
    });
}

std::string tuning_key(const Plan& plan, const DeviceProperties& device) {
    std::string key = fmt::format("{} multiprocessors, overlap {}, {}\n", device.sm_count,
                                  plan.options.overlap ? name_of(*plan.options.overlap) : "open",
                                  to_text({plan.options.tiles_of, plan.options.algorithms_of, {}}));
    for (const Step& step : plan.steps) key += step.problem + '\n';
    return key + overlap_key(plan, device);
}

}  // namespace kn::cuda
