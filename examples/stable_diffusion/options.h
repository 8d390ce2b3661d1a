// The command line of the example.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "stable_diffusion/pipeline.h"

namespace sd {

/// A command line that makes no sense; the program ends with status 2.
struct UsageError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct Options {
    std::vector<std::string> prompts;
    std::optional<std::string> negative;
    std::string model;  ///< empty: the tiny one
    std::optional<int> steps;
    std::optional<double> guidance;
    std::optional<std::string> scheduler;
    std::string scheduler_config;
    std::uint64_t seed = 0;
    int count = 1;
    std::optional<std::int64_t> width;
    std::optional<std::int64_t> height;
    std::string init;
    std::optional<double> strength;
    std::string device = "auto";
    std::string precision = "auto";
    int threads = 0;
    std::string noise;
    std::string dump;
    std::string progress_images;
    std::string output = "stable_diffusion.png";
};

/// Nothing if the program has done what was asked (--help). Throws UsageError.
std::optional<Options> parse_options(int argc, char** argv);

kn::Device parse_device(const std::string& text);
std::optional<kn::Precision> parse_precision(const std::string& text);

}  // namespace sd
