// The denoising loop's state and its steps: on the host with any device's networks, or all on a
// GPU.
//
//     auto stepper = sd::make_stepper(model, schedule, conditions, shape, guidance);
//     stepper->start(x);
//     for (std::size_t i = 0; i < schedule.steps.size(); i++) stepper->step(i, noise);
//     x = stepper->sample();
#pragma once

#include <memory>

#include "stable_diffusion/model.h"

namespace sd {

class Stepper {
  public:
    virtual ~Stepper() = default;
    virtual void start(std::vector<float> sample) = 0;
    /// Steps come in order. Blocks until the step is done. `noise` fills what a step adds.
    virtual void step(std::size_t i, const diffusion::NoiseSource& noise) = 0;
    /// The sample after the last step.
    virtual std::vector<float> sample() = 0;
    /// What the last step expected the original to be; empty where it is not kept.
    virtual std::vector<float> expected() const { return {}; }
    virtual std::size_t device_bytes() const { return 0; }
};

/// What a loop consists of. All must outlive the stepper.
struct Loop {
    Model& model;
    const diffusion::Schedule& schedule;
    const Tensors& conditions;  ///< two halves of rows where `guided`
    kn::Ints shape;             ///< of the sample: [pictures, c, h, w]
    bool guided = false;
    double guidance = 1;
    bool keep_expected = false;
    std::function<void(const std::string&)> warn = {};  ///< may be empty
};

/// e = e0 + guidance (e1 - e0) and the scheduler's sums on the host.
std::unique_ptr<Stepper> make_host_stepper(const Loop& loop);
/// Latents, conditions and the scheduler's state stay on the GPU; each step is one replay of a CUDA
/// graph. Null where the loop asks for something that only the host does, in a build without CUDA,
/// and, with a warning, where the step as a whole has no plan.
std::unique_ptr<Stepper> make_device_stepper(const Loop& loop);

inline std::unique_ptr<Stepper> make_stepper(const Loop& loop) {
    std::unique_ptr<Stepper> on_device = make_device_stepper(loop);
    return on_device ? std::move(on_device) : make_host_stepper(loop);
}

}  // namespace sd
