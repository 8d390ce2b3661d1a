// The raw data of large initializers, read by several threads into memory of their own.
//
//     LargeData data = read_large_data(source, outline.large, model.graph());
//     const ExternalBytes& raw = data.at(&model.graph().initializer(0));
#pragma once

#include <unordered_map>
#include <vector>

#include <kn_onnx.pb.h>

#include <kn/graph/onnx.h>

#include "onnx/outline.h"

namespace kn::onnx {

namespace pb = kn::onnx_pb;

/// By the initializers' addresses; aligned for any dtype.
using LargeData = std::unordered_map<const pb::TensorProto*, ExternalBytes>;

/// `graph` is parsed from the outline that `fields` belongs to. Throws OnnxError if the source is
/// shorter than it was.
LargeData read_large_data(const Source& source, const std::vector<LargeField>& fields,
                          const pb::GraphProto& graph);

}  // namespace kn::onnx
