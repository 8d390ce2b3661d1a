#include "onnx/model_file.h"

#include <set>

#include <fmt/core.h>
#include <google/protobuf/io/coded_stream.h>

#include "onnx/loader.h"
#include "onnx/outline.h"

namespace kn::onnx {

namespace {

// A subgraph takes three messages: the graph, its node, the attribute that holds it. Some more are
// below the innermost.
constexpr int max_message_depth = 3 * max_depth + 20;
constexpr int read_size = 1 << 20;

void parse(const Source& source, const Outline& outline, google::protobuf::MessageLite& message) {
    OutlineStream bytes(source, outline);
    google::protobuf::io::CopyingInputStreamAdaptor stream(&bytes, read_size);
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

std::uint64_t bytes_of(const pb::TensorProto& proto) {
    const auto type = element_type(proto.data_type());
    if (!type) return 0;
    try {
        return static_cast<std::uint64_t>(checked_size(checked_dims(proto))) * size_of(type->dtype);
    } catch (...) {
        return 0;  // loading reports it
    }
}

}  // namespace

void parse(const Source& source, google::protobuf::MessageLite& message) {
    parse(source, whole(source), message);
}

ModelFile::ModelFile(const Source& source) {
    const Outline outline = outline_of(source);
    parse(source, outline, proto);
    large = read_large_data(source, outline.large, proto.graph());
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
    for (const auto& proto : model.graph().initializer()) {
        initializers.insert(proto.name());
        info.weight_bytes += bytes_of(proto);
    }
    for (const auto& input : model.graph().input()) {
        info.inputs.push_back(describe(input));
        if (initializers.count(input.name()) > 0) info.defaulted_inputs.push_back(input.name());
    }
    for (const auto& output : model.graph().output()) info.outputs.push_back(describe(output));
    return info;
}

OnnxInfo describe(const Source& source) {
    pb::ModelProto proto;
    parse(source, outline_of(source), proto);
    return describe(proto);
}

}  // namespace kn::onnx
