#include "stable_diffusion/stepper.h"

namespace sd {

namespace {

class HostStepper : public Stepper {
  public:
    explicit HostStepper(const Loop& loop)
        : loop_(loop), sampler_(loop.schedule, static_cast<std::size_t>(loop.shape.at(0))) {}

    void start(std::vector<float> sample) override { x_ = std::move(sample); }

    void step(std::size_t i, const diffusion::NoiseSource& noise) override {
        const std::vector<float> e = output(i);
        if (loop_.keep_expected) {
            const diffusion::Step& step = loop_.schedule.steps[i];
            expected_.resize(x_.size());
            for (std::size_t k = 0; k < x_.size(); k++)
                expected_[k] =
                    static_cast<float>(step.original_sample * x_[k] + step.original_output * e[k]);
        }
        sampler_.step(i, e, x_, noise);
    }

    std::vector<float> sample() override { return x_; }
    std::vector<float> expected() const override { return expected_; }

  private:
    // Both halves go through as one batch.
    std::vector<float> output(std::size_t i) {
        kn::Ints shape = loop_.shape;
        std::vector<float> input = sampler_.scaled(i, x_);
        if (loop_.guided) {
            shape[0] *= 2;
            input.resize(2 * x_.size());
            std::copy_n(input.begin(), x_.size(),
                        input.begin() + static_cast<std::ptrdiff_t>(x_.size()));
        }
        const kn::Tensor output =
            loop_.model.predict(kn::Tensor::from_span<float>(shape, input),
                                loop_.schedule.steps[i].timestep, loop_.conditions);
        const auto e = output.data<float>();
        if (!loop_.guided) return {e.begin(), e.end()};
        std::vector<float> out(x_.size());
        for (std::size_t k = 0; k < out.size(); k++)
            out[k] = static_cast<float>(e[k] + loop_.guidance *
                                                   (static_cast<double>(e[out.size() + k]) - e[k]));
        return out;
    }

    Loop loop_;
    diffusion::Sampler sampler_;
    std::vector<float> x_;
    std::vector<float> expected_;
};

}  // namespace

std::unique_ptr<Stepper> make_host_stepper(const Loop& loop) {
    return std::make_unique<HostStepper>(loop);
}

}  // namespace sd
