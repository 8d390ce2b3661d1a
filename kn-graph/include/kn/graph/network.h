// Network: a model loaded, optimised and ready to run, whatever the shapes.
//
//     auto net = kn::Network::load("resnet50.onnx", {.device = kn::Device::best(),
//                                                    .precision = kn::Precision::F16});
//     net.prepare({{"batch", 64}});                  // optional: so that run never stalls
//     auto x = kn::Tensor::from_span<float>({64, 3, 224, 224}, pixels);
//     std::vector<kn::Tensor> y = net.run({x});
//
// Any number of threads may use one Network at once.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <kn/graph/device.h>
#include <kn/graph/onnx.h>

namespace kn {

struct NetworkOptions {
    Device device = Device::cpu();
    Precision precision = Precision::F32;
    int threads = 0;               ///< of the CPU; 0: one for each processor
    Tuning tuning = Tuning::Fast;  ///< of GPUs
    bool optimize = true;          ///< kn/graph/optimizer.h
    std::size_t max_plans = 16;    ///< prepared sizes kept; the one unused for longest goes first
    LoadOptions load = {};
};

/// Milliseconds spent so far on getting ready.
struct SetupTimes {
    double load_ms = 0;      ///< reading and converting the model
    double optimize_ms = 0;  ///< rewriting the graph, precision included
    double plan_ms = 0;      ///< preparing for the device
};

class KN_API Network {
  public:
    /// Reads the model and optimises it; blocks. What depends on sizes is made at `prepare` or the
    /// first run. Throws OnnxError, GraphError, DeviceError.
    static Network load(const std::filesystem::path& path, const NetworkOptions& options = {});
    /// The bytes are kept for as long as inputs that decide the network's structure may ask for
    /// another load.
    static Network load(std::vector<std::byte> bytes, const NetworkOptions& options = {});
    /// A network made in code.
    explicit Network(Graph graph, const NetworkOptions& options = {});
    Network(Network&&) noexcept;
    Network& operator=(Network&&) noexcept;
    ~Network();

    /// Plans for these sizes now instead of at the first run with them. All symbols of the inputs
    /// must be given. Blocks. Throws GraphError, and UnsupportedError that names what the device
    /// cannot run.
    void prepare(const Bindings& dims);

    /// Inputs in the order of input_names(). Sizes may differ from run to run: symbols take their
    /// values from the shapes. Blocks until the outputs are there. Throws GraphError that names the
    /// input and what was expected.
    std::vector<Tensor> run(const std::vector<Tensor>& inputs);
    /// Inputs by name; those with a default may be absent.
    std::vector<Tensor> run(const std::map<std::string, Tensor>& inputs);

    /// Inputs that must be given / that may be left out / outputs.
    const std::vector<std::string>& input_names() const;
    const std::vector<std::string>& optional_input_names() const;
    const std::vector<std::string>& output_names() const;
    /// The optimised graph. Throws NeedsValues if the model's structure depends on the content of
    /// inputs.
    const Graph& graph() const;
    const OnnxInfo& info() const;
    const NetworkOptions& options() const;
    SetupTimes setup_times() const;
    /// Most bytes that the device held for intermediate values so far.
    std::size_t peak_bytes() const;

  private:
    struct State;
    explicit Network(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace kn
