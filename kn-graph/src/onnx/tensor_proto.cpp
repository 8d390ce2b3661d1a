#include "onnx/tensor_proto.h"

#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>

#include <fmt/core.h>

#include "ir/split_over_threads.h"
#include "onnx/problems.h"
#include "onnx/random_weights.h"

namespace kn::onnx {

namespace {

constexpr int max_rank = 64;

/// Owns the bytes of a message's string field.
ExternalBytes own(std::string&& text) {
    auto owner = std::make_shared<std::string>(std::move(text));
    return {std::as_bytes(std::span(*owner)), owner};
}

Tensor unpack(ElementType type, const Ints& dims, std::span<const std::byte> packed) {
    Tensor result(type.dtype, dims);
    const auto out = result.mutable_bytes();
    const auto per_byte = static_cast<std::size_t>(8 / type.bits);
    const bool is_signed = type.dtype == DType::I8;
    detail::split_over_threads(out.size(), [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) {
            const auto byte = static_cast<std::uint8_t>(packed[i / per_byte]);
            const int shift = static_cast<int>(i % per_byte) * type.bits;
            int value = (byte >> shift) & ((1 << type.bits) - 1);
            if (is_signed && (value >> (type.bits - 1)) != 0) value -= 1 << type.bits;
            out[i] = static_cast<std::byte>(value);
        }
    });
    return result;
}

/// A tensor over bytes in ONNX's raw layout (little-endian, as the host).
Tensor from_raw(ElementType type, const Ints& dims, ExternalBytes raw) {
    if (type.bits < 8) return unpack(type, dims, raw.bytes);
    if (type.dtype == DType::Bool) {  // any byte may be in the file, but only 0 and 1 are bools
        Tensor result(DType::Bool, dims);
        const auto out = result.mutable_bytes();
        for (std::size_t i = 0; i < out.size(); ++i)
            out[i] = std::byte{raw.bytes[i] != std::byte{0}};
        return result;
    }
    return Tensor::wrap(type.dtype, dims, raw.bytes, std::move(raw.owner));
}

/// Takes the values out of the message, so that they are not held twice.
template <class T, class Field>
Tensor from_field(DType dtype, const Ints& dims, Field* field) {
    Field values;
    values.Swap(field);
    Tensor result(dtype, dims);
    const auto out = result.mutable_bytes();
    for (int i = 0; i < values.size(); ++i) {
        const T value = static_cast<T>(values.Get(i));
        std::memcpy(out.data() + static_cast<std::size_t>(i) * sizeof(T), &value, sizeof(T));
    }
    return result;
}

Tensor from_int32_data(ElementType type, const Ints& dims, pb::TensorProto& proto) {
    const auto& field = proto.int32_data();
    if (type.bits < 8) {
        std::vector<std::byte> packed(static_cast<std::size_t>(field.size()));
        for (int i = 0; i < field.size(); ++i)
            packed[static_cast<std::size_t>(i)] = static_cast<std::byte>(field.Get(i));
        return unpack(type, dims, packed);
    }
    switch (type.dtype) {
        case DType::Bool: {
            Tensor result(DType::Bool, dims);
            const auto out = result.mutable_bytes();
            for (int i = 0; i < field.size(); ++i)
                out[static_cast<std::size_t>(i)] = std::byte{field.Get(i) != 0};
            return result;
        }
        case DType::I8:
        case DType::U8:
            return from_field<std::uint8_t>(type.dtype, dims, proto.mutable_int32_data());
        case DType::I16:
        case DType::U16:
        case DType::F16:
        case DType::BF16:
            return from_field<std::uint16_t>(type.dtype, dims, proto.mutable_int32_data());
        default: return from_field<std::int32_t>(type.dtype, dims, proto.mutable_int32_data());
    }
}

/// The typed field that holds elements of a dtype.
enum class Field { Float, Int32, Int64, Double, Uint64 };
Field field_of(DType dtype) {
    switch (dtype) {
        case DType::F32: return Field::Float;
        case DType::F64: return Field::Double;
        case DType::I64: return Field::Int64;
        case DType::U32:
        case DType::U64: return Field::Uint64;
        default: return Field::Int32;
    }
}

int entries(const pb::TensorProto& proto, Field field) {
    switch (field) {
        case Field::Float: return proto.float_data_size();
        case Field::Double: return proto.double_data_size();
        case Field::Int64: return proto.int64_data_size();
        case Field::Uint64: return proto.uint64_data_size();
        case Field::Int32: break;
    }
    return proto.int32_data_size();
}

std::uint64_t parse_number(const std::string& key, const std::string& text) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || text.empty())
        fail_broken(fmt::format("external data has the {} '{}'", key, text));
    return value;
}

}  // namespace

std::optional<ElementType> element_type(std::int64_t onnx_type) {
    using TP = pb::TensorProto;
    switch (onnx_type) {
        case TP::FLOAT: return ElementType{DType::F32, 32};
        case TP::UINT8: return ElementType{DType::U8, 8};
        case TP::INT8: return ElementType{DType::I8, 8};
        case TP::UINT16: return ElementType{DType::U16, 16};
        case TP::INT16: return ElementType{DType::I16, 16};
        case TP::INT32: return ElementType{DType::I32, 32};
        case TP::INT64: return ElementType{DType::I64, 64};
        case TP::BOOL: return ElementType{DType::Bool, 8};
        case TP::FLOAT16: return ElementType{DType::F16, 16};
        case TP::DOUBLE: return ElementType{DType::F64, 64};
        case TP::UINT32: return ElementType{DType::U32, 32};
        case TP::UINT64: return ElementType{DType::U64, 64};
        case TP::BFLOAT16: return ElementType{DType::BF16, 16};
        case TP::UINT4: return ElementType{DType::U8, 4};
        case TP::INT4: return ElementType{DType::I8, 4};
        case TP::UINT2: return ElementType{DType::U8, 2};
        case TP::INT2: return ElementType{DType::I8, 2};
        default: return {};
    }
}

std::string element_type_name(std::int64_t onnx_type) {
    const auto as_enum = static_cast<int>(onnx_type);
    if (onnx_type == as_enum && pb::TensorProto::DataType_IsValid(as_enum)) {
        const std::string name =
            pb::TensorProto::DataType_Name(static_cast<pb::TensorProto::DataType>(as_enum));
        if (!name.empty()) return name;
    }
    return fmt::format("number {}", onnx_type);
}

ElementType require_element_type(std::int64_t onnx_type) {
    if (const auto type = element_type(onnx_type)) return *type;
    if (onnx_type == pb::TensorProto::UNDEFINED) fail_broken("the element type is missing");
    fail_unsupported(fmt::format("element type {} is not supported", element_type_name(onnx_type)));
}

Ints checked_dims(const pb::TensorProto& proto) {
    if (proto.dims_size() > max_rank)
        fail_unsupported(fmt::format("rank {} is above {}", proto.dims_size(), max_rank));
    Ints dims(proto.dims().begin(), proto.dims().end());
    (void)checked_size(dims);  // throws
    return dims;
}

Tensor Weights::read_external(const pb::TensorProto& proto, ElementType type, const Ints& dims,
                              std::uint64_t need) {
    std::string location;
    std::uint64_t offset = 0;
    std::optional<std::uint64_t> length;
    for (const auto& entry : proto.external_data()) {
        if (entry.key() == "location") location = entry.value();
        if (entry.key() == "offset") offset = parse_number("offset", entry.value());
        if (entry.key() == "length") length = parse_number("length", entry.value());
    }
    if (length && *length != need)
        fail_broken(fmt::format("external data of {} bytes, but its dims {} need {}", *length,
                                Shape::of(dims).to_string(), need));
    if (need == 0) return Tensor(type.dtype, dims);
    if (!external_)
        fail_broken(
            "external data, but the model was given as bytes without LoadOptions::external_data");
    ExternalBytes raw = external_(location, offset, need);
    if (raw.bytes.size() != need)
        fail_broken(fmt::format("external data '{}': {} bytes given, {} needed", location,
                                raw.bytes.size(), need));
    return from_raw(type, dims, std::move(raw));
}

ExternalBytes Weights::raw_data(pb::TensorProto& proto) {
    if (auto large = large_.extract(&proto)) return std::move(large.mapped());
    if (!proto.has_raw_data()) return {};
    return own(std::move(*proto.mutable_raw_data()));
}

Tensor Weights::read(pb::TensorProto& proto) {
    const ElementType type = require_element_type(proto.data_type());
    if (proto.has_segment()) fail_unsupported("a tensor in segments");
    const Ints dims = checked_dims(proto);
    const auto count = static_cast<std::uint64_t>(checked_size(dims));
    const std::uint64_t size = type.bits < 8 ? 1 : size_of(type.dtype);
    if (count > options_.max_weight_bytes / size ||
        bytes_ > options_.max_weight_bytes - count * size)
        fail_unsupported(fmt::format("{}{} is beyond the limit of {} bytes for all weights",
                                     name_of(type.dtype), Shape::of(dims).to_string(),
                                     options_.max_weight_bytes));
    const std::uint64_t need =
        type.bits < 8 ? (count * static_cast<std::uint64_t>(type.bits) + 7) / 8 : count * size;
    const bool external = proto.data_location() == pb::TensorProto::EXTERNAL;

    bytes_ += count * size;
    if (options_.random_weights && is_float(type.dtype) && (external || count > max_small_weight))
        return random_weight(*options_.random_weights, proto.name(), type.dtype, dims);
    if (external) return read_external(proto, type, dims, need);

    const Field field = field_of(type.dtype);
    const int given = entries(proto, field);
    if (ExternalBytes raw = raw_data(proto); !raw.bytes.empty()) {
        if (given > 0) fail_broken("it has both raw and typed data");
        if (raw.bytes.size() != need)
            fail_broken(fmt::format("{} bytes of data, but {}{} needs {}", raw.bytes.size(),
                                    element_type_name(proto.data_type()),
                                    Shape::of(dims).to_string(), need));
        return from_raw(type, dims, std::move(raw));
    }
    const std::uint64_t values = type.bits < 8 ? need : count;
    if (static_cast<std::uint64_t>(given) != values)
        fail_broken(fmt::format("{} values of data, but {}{} needs {}", given,
                                element_type_name(proto.data_type()), Shape::of(dims).to_string(),
                                values));
    switch (field) {
        case Field::Float: return from_field<float>(type.dtype, dims, proto.mutable_float_data());
        case Field::Double:
            return from_field<double>(type.dtype, dims, proto.mutable_double_data());
        case Field::Int64:
            return from_field<std::int64_t>(type.dtype, dims, proto.mutable_int64_data());
        case Field::Uint64:
            if (type.dtype == DType::U32)
                return from_field<std::uint32_t>(type.dtype, dims, proto.mutable_uint64_data());
            return from_field<std::uint64_t>(type.dtype, dims, proto.mutable_uint64_data());
        case Field::Int32: break;
    }
    return from_int32_data(type, dims, proto);
}

Tensor Weights::take(const pb::TensorProto& proto) {
    const auto found = taken_.find(&proto);
    if (found != taken_.end()) return found->second;
    // The loader owns the message; only its bytes are taken, and only here.
    Tensor tensor = read(const_cast<pb::TensorProto&>(proto));
    taken_.emplace(&proto, tensor);
    return tensor;
}

}  // namespace kn::onnx
