#include <algorithm>
#include <map>

#include <kn/graph/optimizer.h>
#include <kn/graph/precision.h>

#include "stable_diffusion/step_graph.h"
#include "stable_diffusion/stepper.h"

#ifdef KN_HAVE_CUDA_EVAL
#include <kn/cuda_eval/executor.h>
#include <kn/cuda_sys/memory.h>
#endif

namespace sd {

#ifdef KN_HAVE_CUDA_EVAL

namespace {

// The UNet at these sizes in the arithmetic asked for; the step around it stays in f32, so that
// halves do not add up over the steps.
kn::Graph unet_graph(const Loop& loop) {
    const Part& unet = loop.model.unet();
    const kn::Graph& graph = unet.network().graph();
    std::vector<kn::Ints> shapes;
    for (const kn::NamedValue& input : graph.inputs()) {
        kn::Ints shape;
        if (input.name == loop.model.sample_name()) {
            shape = loop.shape;
            if (loop.guided) shape[0] *= 2;
        } else if (input.name == "timestep") {
            const kn::Shape& declared = graph.shape(input.value);
            const auto sample = graph.find_input(loop.model.sample_name());
            const std::int64_t rows = loop.shape[0] * (loop.guided ? 2 : 1);
            if (declared.rank() == 1)
                shape = {declared[0] == graph.shape(*sample)[0]
                             ? rows
                             : declared[0].constant().value_or(1)};
        } else {
            shape = loop.conditions.at(input.name).shape();
        }
        shapes.push_back(shape);
    }
    kn::Graph bound = kn::optimize(graph.bind(graph.infer_bindings(shapes)));
    switch (loop.model.precision()) {
        case kn::Precision::F16:
            return kn::optimize(kn::to_precision(bound, kn::DType::F16));
        case kn::Precision::BF16:
            return kn::optimize(kn::to_precision(bound, kn::DType::BF16));
        case kn::Precision::F32:
        case kn::Precision::TF32:
        case kn::Precision::F64:
            break;
    }
    return bound;
}

class DeviceStepper : public Stepper {
  public:
    explicit DeviceStepper(const Loop& loop)
        : loop_(loop),
          layout_(layout_of(loop.schedule)),
          device_(loop.model.device().index()),
          stream_(device_),
          executor_(plan(loop), device_, {}),
          numbers_(stream_, layout_.numbers()),
          noise_(stream_, layout_.noise ? size() : 0) {
        for (auto& side : state_)
            for (std::size_t i = 0; i < layout_.state().size(); i++)
                side.emplace_back(stream_, size());
        for (const kn::NamedValue& input : executor_.plan().graph->inputs()) {
            const auto found = loop.conditions.find(input.name);
            if (found == loop.conditions.end()) continue;
            const auto values = found->second.data<float>();
            conditions_.try_emplace(input.name, stream_, values.size())
                .first->second.upload(stream_, values);
        }
    }

    void start(std::vector<float> sample) override { state_[side_][0].upload(stream_, sample); }

    void step(std::size_t i, const diffusion::NoiseSource& noise) override {
        numbers_.upload(stream_, step_numbers(loop_.schedule, layout_, i, loop_.guidance));
        if (loop_.schedule.steps[i].uses_noise()) {
            std::vector<float> fresh(size());
            noise(fresh);
            noise_.upload(stream_, fresh);
        }
        // The state goes from one side to the other, so that two captured graphs serve all steps.
        const std::vector<std::string> names = layout_.state();
        std::vector<const void*> inputs;
        for (const kn::NamedValue& input : executor_.plan().graph->inputs())
            inputs.push_back(address(input.name, names));
        std::vector<void*> outputs;
        for (const Buffer& buffer : state_[1 - side_]) outputs.push_back(buffer.memory.data());
        executor_.run(stream_, inputs, outputs);
        stream_.synchronize();
        side_ = 1 - side_;
    }

    std::vector<float> sample() override {
        return state_[side_][0].memory.span().to_vector(stream_);
    }
    std::size_t device_bytes() const override { return executor_.device_bytes(); }

  private:
    // Starts as zeros, so that what is not yet written adds nothing.
    struct Buffer {
        Buffer(kn::cuda::StreamRef stream, std::size_t count) : memory(stream.device(), count) {
            if (count > 0) memory.span().fill_bytes_async(stream, 0);
        }
        void upload(kn::cuda::StreamRef stream, std::span<const float> values) {
            memory.span().upload_async(stream, values);
            stream.synchronize();
        }
        kn::cuda::DeviceBuffer<float> memory;
    };

    static std::shared_ptr<const kn::cuda::Plan> plan(const Loop& loop) {
        const bool tf32 = loop.model.precision() == kn::Precision::TF32;
        const kn::Graph step = make_step_graph(unet_graph(loop), loop.model.sample_name(),
                                               layout_of(loop.schedule), loop.guided);
        const kn::cuda::DeviceProperties& properties =
            kn::cuda::Device(loop.model.device().index()).properties();
        return std::make_shared<const kn::cuda::Plan>(kn::cuda::plan(
            step, properties, {.precision = tf32 ? kn::Precision::TF32 : kn::Precision::F32}));
    }

    const void* address(const std::string& name, const std::vector<std::string>& names) const {
        if (name == "numbers") return numbers_.memory.data();
        if (name == "noise") return noise_.memory.data();
        if (const auto found = conditions_.find(name); found != conditions_.end())
            return found->second.memory.data();
        const auto at = std::ranges::find(names, name);
        KN_CHECK(at != names.end(), name);
        return state_[side_][static_cast<std::size_t>(at - names.begin())].memory.data();
    }

    std::size_t size() const { return static_cast<std::size_t>(kn::checked_size(loop_.shape)); }

    Loop loop_;
    StepLayout layout_;
    kn::cuda::Device device_;
    kn::cuda::Stream stream_;
    kn::cuda::Executor executor_;
    Buffer numbers_;
    Buffer noise_;
    std::vector<Buffer> state_[2];
    std::map<std::string, Buffer> conditions_;
    std::size_t side_ = 0;
};

// An export of a fixed batch goes through in portions, which the host puts together.
bool takes_whole_batch(const Loop& loop) {
    const Part& unet = loop.model.unet();
    const auto fixed = unet.fixed_dim(*unet.input(loop.model.sample_name()), 0);
    return !fixed || *fixed == loop.shape[0] * (loop.guided ? 2 : 1);
}

}  // namespace

std::unique_ptr<Stepper> make_device_stepper(const Loop& loop) {
    if (loop.model.device().kind() != kn::Device::Kind::Cuda || loop.keep_expected) return nullptr;
    if (!fits_step_graph(loop.schedule) || !takes_whole_batch(loop)) return nullptr;
    try {
        return std::make_unique<DeviceStepper>(loop);
    } catch (const kn::GraphError& error) {
        if (loop.warn)
            loop.warn(std::string("the scheduler's part of a step stays on the host: ") +
                      error.what());
        return nullptr;
    }
}

#else

std::unique_ptr<Stepper> make_device_stepper(const Loop&) { return nullptr; }

#endif

}  // namespace sd
