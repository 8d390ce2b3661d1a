#include "onnx/model_file.h"

#include <cerrno>
#include <cstring>
#include <limits>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/core.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include "onnx/loader.h"

namespace kn::onnx {

namespace {

// A subgraph takes three messages: the graph, its node, the attribute that holds it. Some more are
// below the innermost.
constexpr int max_message_depth = 3 * max_depth + 20;
constexpr int read_size = 1 << 20;

class Descriptor : public google::protobuf::io::CopyingInputStream {
  public:
    explicit Descriptor(const std::filesystem::path& path)
        : fd_(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {
        if (fd_ < 0) refuse(std::strerror(errno));
        struct stat status {};
        if (::fstat(fd_, &status) != 0) refuse(std::strerror(errno));
        if (!S_ISREG(status.st_mode)) refuse("it is no regular file");
        if (status.st_size > std::numeric_limits<int>::max())
            refuse("it is larger than 2 GiB, the limit of the format");
        if (status.st_size == 0) refuse("it is empty");
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    ~Descriptor() override {
        if (fd_ >= 0) ::close(fd_);
    }
    int Read(void* buffer, int size) override {
        ssize_t count = 0;
        do count = ::read(fd_, buffer, static_cast<std::size_t>(size));
        while (count < 0 && errno == EINTR);
        return static_cast<int>(count);
    }

  private:
    [[noreturn]] void refuse(const std::string& reason) {
        if (fd_ >= 0) ::close(fd_);
        throw OnnxError(OnnxError::Kind::BrokenFile, "the file cannot be read: " + reason);
    }
    int fd_;
};

void parse(google::protobuf::io::ZeroCopyInputStream& stream,
           google::protobuf::MessageLite& message) {
    google::protobuf::io::CodedInputStream coded(&stream);
    coded.SetRecursionLimit(max_message_depth);
    if (!message.MergePartialFromCodedStream(&coded) || !coded.ConsumedEntireMessage())
        throw OnnxError(
            OnnxError::Kind::BrokenFile,
            fmt::format(
                "not an ONNX file, or cut short, or with subgraphs nested deeper than {} levels",
                max_depth));
}

void count_operators(const google::protobuf::RepeatedPtrField<pb::NodeProto>& nodes,
                     std::map<std::string, std::size_t>& counts) {
    for (const auto& node : nodes) {
        const std::string domain = normal_domain(node.domain());
        ++counts[domain.empty() ? node.op_type() : domain + "::" + node.op_type()];
        for (const auto& attribute : node.attribute())
            if (attribute.has_g()) count_operators(attribute.g().node(), counts);
    }
}

OnnxInfo::Port describe(const pb::ValueInfoProto& info) {
    OnnxInfo::Port port{info.name(), {}, {}};
    if (info.type().value_case() != pb::TypeProto::kTensorType) return port;
    const auto& type = info.type().tensor_type();
    if (const auto element = element_type(type.elem_type())) port.dtype = element->dtype;
    if (!type.has_shape()) return port;
    try {
        port.shape = declared_shape(info.name(), type.shape());
    } catch (const Failure&) {
        // A broken shape is described as unknown; loading reports it.
    }
    return port;
}

}  // namespace

void parse_file(const std::filesystem::path& path, google::protobuf::MessageLite& message) {
    Descriptor file(path);
    google::protobuf::io::CopyingInputStreamAdaptor stream(&file, read_size);
    parse(stream, message);
}

void parse_bytes(std::span<const std::byte> bytes, google::protobuf::MessageLite& message) {
    if (bytes.size() > static_cast<std::size_t>(std::numeric_limits<int>::max()))
        throw OnnxError(OnnxError::Kind::BrokenFile,
                        "the model is larger than 2 GiB, the limit of the format");
    if (bytes.empty()) throw OnnxError(OnnxError::Kind::BrokenFile, "the model is empty");
    google::protobuf::io::ArrayInputStream stream(bytes.data(), static_cast<int>(bytes.size()));
    parse(stream, message);
}

OnnxInfo describe(const pb::ModelProto& model) {
    OnnxInfo info;
    info.producer = model.producer_name() +
                    (model.producer_version().empty() ? "" : " " + model.producer_version());
    info.domain = model.domain();
    info.description = model.doc_string();
    info.ir_version = model.ir_version();
    info.model_version = model.model_version();
    for (const auto& opset : model.opset_import())
        info.opsets.emplace(normal_domain(opset.domain()), opset.version());
    for (const auto& entry : model.metadata_props()) info.metadata[entry.key()] = entry.value();
    count_operators(model.graph().node(), info.operators);
    for (const auto& function : model.functions()) count_operators(function.node(), info.operators);
    info.functions = static_cast<std::size_t>(model.functions_size());
    std::set<std::string> initializers;
    for (const auto& proto : model.graph().initializer()) initializers.insert(proto.name());
    for (const auto& input : model.graph().input()) {
        info.inputs.push_back(describe(input));
        if (initializers.count(input.name()) > 0) info.defaulted_inputs.push_back(input.name());
    }
    for (const auto& output : model.graph().output()) info.outputs.push_back(describe(output));
    return info;
}

}  // namespace kn::onnx
