// Models and other messages, parsed.
//
//     ModelFile file(Source(path));
//     Loader loader(file.proto, options, reader, std::move(file.large));
#pragma once

#include <kn_onnx.pb.h>

#include <kn/graph/onnx.h>

#include "onnx/large_data.h"
#include "onnx/source.h"

namespace kn::onnx {

namespace pb = kn::onnx_pb;

/// Throws OnnxError: the source is no such message, or cannot be read.
void parse(const Source& source, google::protobuf::MessageLite& message);

struct ModelFile {
    /// Throws OnnxError as `parse` does.
    explicit ModelFile(const Source& source);
    ModelFile(const ModelFile&) = delete;  // `large` has addresses of messages
    ModelFile& operator=(const ModelFile&) = delete;

    pb::ModelProto proto;
    LargeData large;  ///< what these initializers have no raw data for in `proto`
};

OnnxInfo describe(const pb::ModelProto& model);
/// Reads no large weights. Throws OnnxError as `parse` does.
OnnxInfo describe(const Source& source);

}  // namespace kn::onnx
