// Reading messages from files and memory.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

#include <kn_onnx.pb.h>

#include <kn/graph/onnx.h>

namespace kn::onnx {

namespace pb = kn::onnx_pb;

/// Throws OnnxError: a file that cannot be read, is larger than protobuf's 2 GiB, or is no such
/// message.
void parse_file(const std::filesystem::path& path, google::protobuf::MessageLite& message);
void parse_bytes(std::span<const std::byte> bytes, google::protobuf::MessageLite& message);

OnnxInfo describe(const pb::ModelProto& model);

}  // namespace kn::onnx
