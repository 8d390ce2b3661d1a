// One denoising step as a graph: both halves of the UNet, guidance and the scheduler's sums, so
// that a device runs all of it at once.
//
//     sd::StepLayout layout = sd::layout_of(schedule);
//     kn::Graph step = sd::make_step_graph(unet, "sample", layout, true);
//     std::vector<float> numbers = sd::step_numbers(schedule, layout, i, guidance);
//
// Inputs: "sample" [n, c, h, w], the layout's further state, "noise" where steps use it, "numbers"
// f32 [numbers], and what the UNet reads besides, all f32. Outputs: the state, in the same order.
#pragma once

#include <string>
#include <vector>

#include <kn/graph.h>

#include "common/diffusion/scheduler.h"

namespace sd {

/// What a schedule's steps keep from one to the next, besides the sample.
struct StepLayout {
    bool saved = false;     ///< an earlier sample
    std::size_t slots = 0;  ///< earlier outputs
    bool noise = false;
    /// Names of the state, "sample" first: inputs and outputs of the graph.
    std::vector<std::string> state() const;
    std::size_t numbers() const;
};

StepLayout layout_of(const diffusion::Schedule& schedule);

/// Whether a graph can do all of the schedule's steps (dynamic thresholding needs the host).
bool fits_step_graph(const diffusion::Schedule& schedule);

/// What is different about step `i`: the input "numbers".
std::vector<float> step_numbers(const diffusion::Schedule& schedule, const StepLayout& layout,
                                std::size_t i, double guidance);

/// `unet` is static; its input `sample_name` has two rows for each of the sample's where `guided`,
/// the first half without the prompt. Throws kn::GraphError.
kn::Graph make_step_graph(const kn::Graph& unet, const std::string& sample_name,
                          const StepLayout& layout, bool guided);

}  // namespace sd
