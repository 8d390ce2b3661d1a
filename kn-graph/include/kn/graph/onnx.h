// ONNX files as graphs.
//
//     kn::Graph g = kn::load_onnx("net.onnx", {.dims = {{"batch", 8}}});
//     for (const std::string& problem : kn::check_onnx("other.onnx")) std::puts(problem.c_str());
//
// Operator versions 7 to 28 of ai.onnx are honoured one by one; a newer stamp is accepted for
// operators that have never changed their meaning. Shape arithmetic is folded away, If with a known
// condition and local functions are inlined. Types without a dtype of their own: 4-bit and 2-bit
// integers become i8 or u8. Thread-safe: any number of loads at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <kn/graph/graph.h>

namespace kn {

/// Elements outside the model file, kept alive by `owner`.
struct ExternalBytes {
    std::span<const std::byte> bytes;
    std::shared_ptr<const void> owner;
};
/// Gives `length` bytes at `offset` of the file that the model calls `location`. Whatever it throws
/// ends the load.
using ExternalReader = std::function<ExternalBytes(const std::string& location,
                                                   std::uint64_t offset, std::uint64_t length)>;

struct LoadOptions {
    /// Values of symbolic dims by name ("batch", or "input.axis" for a dim without a name), so that
    /// shapes fold while loading.
    Bindings dims = {};
    /// Shapes of inputs by name, in place of what the file says.
    std::map<std::string, Shape> input_shapes = {};
    /// Inputs whose content is fixed. They stay in the signature, but the graph does not read them.
    std::map<std::string, Tensor> values = {};
    /// Initializers that become inputs, without a default. (All others are constants, also where
    /// the file lists them as inputs.)
    std::vector<std::string> override_defaults = {};
    /// Float weights are replaced by numbers of this seed, about N(0, 1 / fan-in); external data is
    /// not read. To time a network without its weights.
    std::optional<std::uint64_t> random_weights = {};
    /// External data for a model out of bytes; for one out of a file, in place of the files beside
    /// it.
    ExternalReader external_data = {};
    /// Folders, besides the model's own, where external data may lie (model caches link there).
    std::vector<std::filesystem::path> external_roots = {};
    /// Largest size of all weights together; beyond it the load fails before anything is allocated.
    std::uint64_t max_weight_bytes = std::uint64_t{1} << 40;
};

/// What a model file says of itself.
struct OnnxInfo {
    struct Port {
        std::string name;
        std::optional<DType> dtype;  ///< none: not a tensor, or of a type that kn lacks
        std::optional<Shape> shape;  ///< none: of unknown rank
    };
    std::string producer;  ///< name and version
    std::string domain;
    std::string description;  ///< the model's doc string
    std::int64_t ir_version = 0;
    std::int64_t model_version = 0;
    std::map<std::string, std::int64_t> opsets;  ///< by domain; "" is ai.onnx
    std::map<std::string, std::string> metadata;
    /// Nodes by "domain::Op" ("Op" for ai.onnx), bodies and functions included.
    std::map<std::string, std::size_t> operators;
    std::size_t functions = 0;
    std::vector<Port> inputs;  ///< all that the file lists, in its order
    std::vector<Port> outputs;
    /// Listed inputs that an initializer gives a default.
    std::vector<std::string> defaulted_inputs;
    std::uint64_t weight_bytes = 0;  ///< of initializers; after loading, also of Constant nodes
};

struct OnnxModel {
    Graph graph;
    OnnxInfo info;
};

/// Loading failed only because nodes need numbers that the run-time content of some inputs decides
/// (axes, counts). Load again with those inputs in LoadOptions::values.
class KN_API NeedsValues : public OnnxError {
  public:
    NeedsValues(const std::string& message, std::vector<std::string> inputs)
        : OnnxError(Kind::Unsupported, message), inputs_(std::move(inputs)) {}
    const std::vector<std::string>& inputs_to_fix() const { return inputs_; }

  private:
    std::vector<std::string> inputs_;
};

/// Reads a model file. External data is mapped, not read: the file must not change while the graph
/// lives. Blocks for the time of parsing. Throws OnnxError with all problems of the file, one a
/// line; GraphError where `options` names something that the model does not have.
KN_API Graph load_onnx(const std::filesystem::path& path, const LoadOptions& options = {});
/// The same out of memory, which is not used after the call.
KN_API Graph load_onnx(std::span<const std::byte> bytes, const LoadOptions& options = {});
/// Graph and description.
KN_API OnnxModel load_onnx_model(const std::filesystem::path& path,
                                 const LoadOptions& options = {});
KN_API OnnxModel load_onnx_model(std::span<const std::byte> bytes, const LoadOptions& options = {});
/// The description alone; it needs no operator to be supported and reads no weights. Throws
/// OnnxError if the file cannot be parsed.
KN_API OnnxInfo read_onnx_info(const std::filesystem::path& path);
KN_API OnnxInfo read_onnx_info(std::span<const std::byte> bytes);
/// All problems that loading meets, one each; empty if it would load. A file that cannot be read is
/// a problem too.
KN_API std::vector<std::string> check_onnx(const std::filesystem::path& path,
                                           const LoadOptions& options = {});

/// A serialized TensorProto, as data sets of ONNX's backend tests hold. The name may be empty.
/// Throws OnnxError.
KN_API Tensor read_tensor_pb(const std::filesystem::path& path, std::string* name = nullptr);

}  // namespace kn
