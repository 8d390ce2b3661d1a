// What a device has to offer so that a Network can run on it. The CPU is built in; <kn/kn.h> adds
// the others of the build.
//
//     kn::register_backend(kn::Device::Kind::Cuda, std::make_shared<MyBackend>());
#pragma once

#include <memory>
#include <vector>

#include <kn/graph/device.h>
#include <kn/graph/error.h>
#include <kn/graph/graph.h>

namespace kn {

/// The device asked for is not there; the message says why.
class KN_API DeviceError : public Error {
  public:
    using Error::Error;
};

/// The graph is right, but the device has no way to run it; the message lists every operation
/// concerned.
class KN_API UnsupportedError : public GraphError {
  public:
    using GraphError::GraphError;
};

struct BackendOptions {
    Device device = Device::cpu();
    Precision precision = Precision::F32;
    int threads = 0;  ///< of the CPU; 0: all
    Tuning tuning = Tuning::Fast;
};

/// A graph made ready for one device. Any number of threads may call `run` at once.
class KN_API Executable {
  public:
    virtual ~Executable() = default;
    /// Host tensors in the order of the graph's inputs and outputs. Blocks until the outputs are
    /// there.
    virtual std::vector<Tensor> run(const std::vector<Tensor>& inputs) = 0;
    /// Most bytes held on the device for intermediate values.
    virtual std::size_t peak_bytes() const = 0;
};

/// A kind of device. Any number of threads may call its functions at once.
class KN_API Backend {
  public:
    virtual ~Backend() = default;
    /// Whether `prepare` takes graphs with symbolic sizes; otherwise it gets one graph per set of
    /// sizes.
    virtual bool takes_symbols() const = 0;
    /// Usable devices, best first; none where the driver or the hardware is missing.
    virtual std::vector<Device> devices() const = 0;
    /// Why `devices` is empty, in a sentence.
    virtual std::string why_unavailable() const = 0;
    /// Begins, in the background, what takes long on this device before any work is there; whoever
    /// destroys the result waits for it. Null where there is nothing to begin. Throws nothing: what
    /// fails will fail again where it is needed.
    virtual std::shared_ptr<void> warm_up(Device) { return nullptr; }
    /// Throws UnsupportedError where the graph, GraphError where the precision cannot run on this
    /// device.
    virtual std::unique_ptr<Executable> prepare(std::shared_ptr<const Graph> graph,
                                                const BackendOptions& options) = 0;
};

/// Makes a kind of device known to the process, in place of an earlier one. Thread-safe.
KN_API void register_backend(Device::Kind kind, std::shared_ptr<Backend> backend);
/// Throws DeviceError that says why if the build or the machine has no such device.
KN_API std::shared_ptr<Backend> backend_for(Device device);

}  // namespace kn
