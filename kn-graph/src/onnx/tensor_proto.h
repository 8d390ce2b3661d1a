// TensorProto as Tensor: every encoding of elements, checked against the dims before anything is
// allocated.
//
//     Weights weights(external_reader, large_data, options);
//     Tensor t = weights.take(proto);     // the proto's bytes move into the tensor
#pragma once

#include <unordered_map>

#include <kn_onnx.pb.h>

#include <kn/graph/onnx.h>

#include "onnx/large_data.h"

namespace kn::onnx {

namespace pb = kn::onnx_pb;

/// How kn holds an ONNX element type. `bits` is below 8 for packed integers, which are held as one
/// i8 or u8 each.
struct ElementType {
    DType dtype;
    int bits;
};
/// Nothing for types that kn lacks (strings, complex numbers, 8-bit floats, ...).
std::optional<ElementType> element_type(std::int64_t onnx_type);
/// "FLOAT8E4M3FN", or "type 99"
std::string element_type_name(std::int64_t onnx_type);
/// The dtype, or Failure (unsupported).
ElementType require_element_type(std::int64_t onnx_type);

/// The dims as numbers. Throws Failure on a negative dim, overflow, or an absurd rank.
Ints checked_dims(const pb::TensorProto& proto);

class Weights {
  public:
    /// Raw data that a message lacks may be in `large`.
    Weights(ExternalReader external, LargeData large, const LoadOptions& options)
        : external_(std::move(external)), large_(std::move(large)), options_(options) {}

    /// The tensor; of one proto always the same (its bytes are moved out at the first time). Throws
    /// Failure.
    Tensor take(const pb::TensorProto& proto);
    std::uint64_t bytes() const { return bytes_; }

  private:
    Tensor read(pb::TensorProto& proto);
    ExternalBytes raw_data(pb::TensorProto& proto);
    Tensor read_external(const pb::TensorProto& proto, ElementType type, const Ints& dims,
                         std::uint64_t need);

    ExternalReader external_;
    LargeData large_;
    const LoadOptions& options_;
    std::unordered_map<const pb::TensorProto*, Tensor> taken_;
    std::uint64_t bytes_ = 0;
};

}  // namespace kn::onnx
