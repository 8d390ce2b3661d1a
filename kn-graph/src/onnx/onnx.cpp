// The public functions of kn/graph/onnx.h.
#include <kn/graph/onnx.h>

#include "onnx/external.h"
#include "onnx/loader.h"
#include "onnx/model_file.h"

namespace kn {

namespace {

ExternalReader reader_beside(const std::filesystem::path& path, const LoadOptions& options) {
    if (options.external_data) return options.external_data;
    auto files = std::make_shared<onnx::ExternalFiles>(path.parent_path(), options.external_roots);
    return [files](const std::string& location, std::uint64_t offset, std::uint64_t length) {
        return files->read(location, offset, length);
    };
}

OnnxModel load(onnx::ModelFile& file, const LoadOptions& options, ExternalReader external) {
    OnnxInfo info = onnx::describe(file.proto);
    onnx::Loader loader(file.proto, options, std::move(external), std::move(file.large));
    Graph graph = loader.load();
    info.weight_bytes = loader.weight_bytes();
    return {std::move(graph), std::move(info)};
}

}  // namespace

OnnxModel load_onnx_model(const std::filesystem::path& path, const LoadOptions& options) {
    onnx::ModelFile file{onnx::Source(path)};
    return load(file, options, reader_beside(path, options));
}

OnnxModel load_onnx_model(std::span<const std::byte> bytes, const LoadOptions& options) {
    onnx::ModelFile file{onnx::Source(bytes)};
    return load(file, options, options.external_data);
}

Graph load_onnx(const std::filesystem::path& path, const LoadOptions& options) {
    return load_onnx_model(path, options).graph;
}

Graph load_onnx(std::span<const std::byte> bytes, const LoadOptions& options) {
    return load_onnx_model(bytes, options).graph;
}

OnnxInfo read_onnx_info(const std::filesystem::path& path) {
    return onnx::describe(onnx::Source(path));
}

OnnxInfo read_onnx_info(std::span<const std::byte> bytes) {
    return onnx::describe(onnx::Source(bytes));
}

std::vector<std::string> check_onnx(const std::filesystem::path& path, const LoadOptions& options) {
    try {
        (void)load_onnx(path, options);
        return {};
    } catch (const OnnxError& error) {
        std::vector<std::string> lines;
        const std::string text = error.what();
        for (std::size_t from = 0; from <= text.size();) {
            const std::size_t end = std::min(text.find('\n', from), text.size());
            lines.push_back(text.substr(from, end - from));
            from = end + 1;
        }
        return lines;
    }
}

Tensor read_tensor_pb(const std::filesystem::path& path, std::string* name) {
    onnx::pb::TensorProto proto;
    onnx::parse(onnx::Source(path), proto);
    if (name != nullptr) *name = proto.name();
    const LoadOptions options;
    onnx::Weights weights({}, {}, options);
    onnx::Problems problems;
    Tensor tensor;
    problems.guard("tensor '" + proto.name() + "'", [&] { tensor = weights.take(proto); });
    problems.raise_if_any();
    return tensor;
}

}  // namespace kn
