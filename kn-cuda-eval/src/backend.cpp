#include <kn/cuda_eval/backend.h>

#include <algorithm>
#include <thread>

#include <kn/cuda_eval/executor.h>
#include <kn/cuda_sys/cublaslt.h>
#include <kn/cuda_sys/nvrtc.h>

namespace kn::cuda {

namespace {

class CudaExecutable : public Executable {
  public:
    CudaExecutable(const Graph& graph, Device device, const BackendOptions& options)
        : executor_(plan_for(graph, device, options), device, {.tuning = options.tuning}) {}
    std::vector<Tensor> run(const std::vector<Tensor>& inputs) override {
        return executor_.run(inputs);
    }
    std::size_t peak_bytes() const override { return executor_.device_bytes(); }

  private:
    static std::shared_ptr<const Plan> plan_for(const Graph& graph, Device device,
                                                const BackendOptions& options) {
        const PlanOptions wanted{.precision = options.precision};
        if (options.tuning == Tuning::Full) return tuned_plan(graph, device, wanted);
        return std::make_shared<const Plan>(plan(graph, device.properties(), wanted));
    }

    Executor executor_;
};

// Libraries of hundreds of megabytes. While one is opened, no other is, nor the compiler's own
// parts: so they come before there is anything to compile.
void open_libraries() {
    nvrtc_version();
    cublaslt_version();
    why_no_cudnn();
}

// cuDNN's tables are made with the first question for plans.
void ask_cudnn_first(const DeviceProperties& device) {
    const auto tensor = [](std::vector<std::int64_t> dims) {
        return channels_last(DataType::F16, std::move(dims));
    };
    const ConvDesc conv{
        .x = tensor({1, 8, 8, 8}), .w = tensor({8, 8, 1, 1}), .y = tensor({1, 8, 8, 8})};
    list_candidates(conv, device, {.runtime_compiled = false});
}

class CudaBackend : public Backend {
  public:
    bool takes_symbols() const override { return false; }

    std::vector<kn::Device> devices() const override {
        const int count = device_count();
        std::vector<kn::Device> list;
        for (int i = 0; i < count; i++) list.push_back(kn::Device::cuda(i));
        if (count < 2) return list;
        std::vector<std::size_t> free;
        for (int i = 0; i < count; i++) free.push_back(free_bytes(i));
        std::ranges::stable_sort(list, [&](const kn::Device& a, const kn::Device& b) {
            return free[static_cast<std::size_t>(a.index())] >
                   free[static_cast<std::size_t>(b.index())];
        });
        return list;
    }

    // The driver and the device's context, 0.2 s, and beside them the libraries.
    std::shared_ptr<void> warm_up(kn::Device device) override {
        return std::make_shared<std::jthread>([index = device.index()] {
            try {
                std::jthread libraries(open_libraries);
                const Device gpu(index);
                const DeviceProperties& properties = gpu.properties();
                const std::jthread context([&] { ask_memory(gpu); });
                libraries.join();
                ask_cudnn_first(properties);
            } catch (const std::exception&) {
                // It will fail again where it is needed.
            }
        });
    }

    std::string why_unavailable() const override { return cuda::why_unavailable(); }

    std::unique_ptr<Executable> prepare(std::shared_ptr<const Graph> graph,
                                        const BackendOptions& options) override {
        return std::make_unique<CudaExecutable>(*graph, Device(options.device.index()), options);
    }

  private:
    // It makes the context.
    static void ask_memory(Device gpu) {
        try {
            gpu.memory();
        } catch (const Error&) {
            // It will fail again where it is needed.
        }
    }

    // A device that cannot be asked comes last.
    static std::size_t free_bytes(int index) {
        try {
            return Device(index).memory().free;
        } catch (const Error&) {
            return 0;
        }
    }
};

}  // namespace

bool register_backend() {
    kn::register_backend(kn::Device::Kind::Cuda, std::make_shared<CudaBackend>());
    return true;
}

}  // namespace kn::cuda
