#include <algorithm>
#include <limits>

#include <fmt/core.h>

#include <kn/cuda_eval/executor.h>

#include "cache/disk_cache.h"

namespace kn::cuda {

namespace {

constexpr std::size_t most_tiles = 8;  // of a problem that are timed

struct Timed {
    double us = std::numeric_limits<double>::infinity();
    std::string tiles;
};
using Fastest = std::map<std::string, Timed>;  // by problem

std::string key_of(const std::string& problem, const DeviceProperties& device) {
    return fmt::format("{} sm_{} {} of {}: {}", device.name, device.compute(), device.sm_count,
                       most_tiles, problem);
}

// A problem's steps are its products and what copies their results; its time is theirs, for each
// product.
void keep_faster(const Plan& plan, const std::vector<StepTime>& times, Fastest& fastest) {
    struct Sum {
        double us = 0;
        int products = 0;
        std::string tiles;
    };
    std::map<std::string, Sum> sums;
    for (const StepTime& time : times) {
        const Step& step = plan.steps[time.step];
        if (step.problem.empty()) continue;
        Sum& sum = sums[step.problem];
        sum.us += time.us;
        if (step.tiles.empty()) continue;
        sum.products++;
        sum.tiles = step.tiles;
    }
    for (const auto& [problem, sum] : sums) {
        // What was expected to be faster stays where the difference may be noise.
        constexpr double noise = 0.99;
        Timed& best = fastest[problem];
        if (const double us = sum.us / sum.products; us < noise * best.us) best = {us, sum.tiles};
    }
}

}  // namespace

std::shared_ptr<const Plan> tuned_plan(const Graph& graph, Device device, PlanOptions options) {
    const DeviceProperties properties = device.properties();
    DiskCache* const cache = DiskCache::shared();
    const auto made = [&] {
        return std::make_shared<const Plan>(plan(graph, properties, options));
    };
    const auto first = made();
    bool all_known = true, all_first = true;
    for (const Step& step : first->steps) {
        if (step.tiles.empty()) continue;
        const auto known =
            cache ? cache->get("tiles", key_of(step.problem, properties)) : std::nullopt;
        if (known) options.tiles_of[step.problem] = *known;
        all_known = all_known && known;
        all_first = all_first && known == step.tiles;
    }
    if (!all_known) {
        Fastest fastest;
        options.tiles_of.clear();
        for (options.tiles = 0; options.tiles < most_tiles; options.tiles++) {
            const auto tried = options.tiles == 0 ? first : made();
            Executor executor(tried, device);
            keep_faster(*tried, executor.time_steps(), fastest);
        }
        options.tiles = 0;
        all_first = false;
        for (const auto& [problem, timed] : fastest) {
            options.tiles_of[problem] = timed.tiles;
            if (cache) cache->put("tiles", key_of(problem, properties), timed.tiles);
        }
    }
    return all_first ? first : made();
}

}  // namespace kn::cuda
