// Initializers: every encoding of elements, and data that do not fit the dims.
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graph/onnx_builder.h"

namespace kn::test {
namespace {

using TP = pb::TensorProto;
using testing::ElementsAre;
using testing::HasSubstr;

/// The initializer as the loader gives it.
Tensor load(const TP& proto) {
    ModelBuilder m;
    m.graph().initializer(proto).output(proto.name());
    const Graph g = m.load();
    return constant_output(g);
}

std::string problem(const TP& proto) {
    ModelBuilder m;
    m.graph().initializer(proto).output(proto.name());
    return m.problems();
}

std::vector<double> elements(const Tensor& t) {
    std::vector<double> out;
    for (std::int64_t i = 0; i < t.size(); ++i) out.push_back(t.at(i));
    return out;
}

template <class T>
TP raw(int type, const Ints& dims, const std::vector<T>& values) {
    TP proto = tensor_proto("w", type, dims);
    proto.set_raw_data(values.data(), values.size() * sizeof(T));
    return proto;
}

TEST(OnnxTensor, RawDataOfEveryType) {
    EXPECT_THAT(elements(load(raw<float>(TP::FLOAT, {2}, {1.5f, -2}))), ElementsAre(1.5, -2));
    EXPECT_THAT(elements(load(raw<double>(TP::DOUBLE, {2}, {1.5, -2}))), ElementsAre(1.5, -2));
    EXPECT_THAT(elements(load(raw<std::uint16_t>(TP::FLOAT16, {2}, {0x3E00, 0xC000}))),
                ElementsAre(1.5, -2));
    EXPECT_THAT(elements(load(raw<std::uint16_t>(TP::BFLOAT16, {2}, {0x3FC0, 0xC000}))),
                ElementsAre(1.5, -2));
    EXPECT_THAT(elements(load(raw<std::int8_t>(TP::INT8, {2}, {-128, 127}))),
                ElementsAre(-128, 127));
    EXPECT_THAT(elements(load(raw<std::uint8_t>(TP::UINT8, {2}, {0, 255}))), ElementsAre(0, 255));
    EXPECT_THAT(elements(load(raw<std::int16_t>(TP::INT16, {2}, {-300, 300}))),
                ElementsAre(-300, 300));
    EXPECT_THAT(elements(load(raw<std::uint16_t>(TP::UINT16, {1}, {65535}))), ElementsAre(65535));
    EXPECT_THAT(elements(load(raw<std::int32_t>(TP::INT32, {1}, {-70000}))), ElementsAre(-70000));
    EXPECT_THAT(elements(load(raw<std::uint32_t>(TP::UINT32, {1}, {4000000000u}))),
                ElementsAre(4e9));
    EXPECT_THAT(elements(load(raw<std::int64_t>(TP::INT64, {1}, {-5000000000}))),
                ElementsAre(-5e9));
    EXPECT_THAT(elements(load(raw<std::uint64_t>(TP::UINT64, {1}, {5000000000u}))),
                ElementsAre(5e9));
}

TEST(OnnxTensor, AnyNonZeroByteIsTrue) {
    const Tensor t = load(raw<std::uint8_t>(TP::BOOL, {3}, {0, 1, 7}));
    EXPECT_EQ(t.dtype(), DType::Bool);
    EXPECT_THAT(elements(t), ElementsAre(0, 1, 1));
}

TEST(OnnxTensor, TypedFields) {
    const auto from_int32 = [](int type, const std::vector<int>& values) {
        TP proto = tensor_proto("w", type, {static_cast<std::int64_t>(values.size())});
        for (const int value : values) proto.add_int32_data(value);
        return elements(load(proto));
    };
    EXPECT_THAT(from_int32(TP::INT8, {-3, 3}), ElementsAre(-3, 3));
    EXPECT_THAT(from_int32(TP::UINT16, {65535}), ElementsAre(65535));
    EXPECT_THAT(from_int32(TP::BOOL, {0, 2}), ElementsAre(0, 1));
    EXPECT_THAT(from_int32(TP::FLOAT16, {0x3E00}), ElementsAre(1.5));
    EXPECT_THAT(from_int32(TP::BFLOAT16, {0xC000}), ElementsAre(-2));
    EXPECT_THAT(elements(load(floats("w", {2}, {1, 2}))), ElementsAre(1, 2));
    EXPECT_THAT(elements(load(integers("w", {2}, {1, -2}))), ElementsAre(1, -2));
    TP doubles = tensor_proto("w", TP::DOUBLE, {});
    doubles.add_double_data(0.25);
    EXPECT_THAT(elements(load(doubles)), ElementsAre(0.25));
    TP unsigned_ = tensor_proto("w", TP::UINT32, {1});
    unsigned_.add_uint64_data(4000000000u);
    EXPECT_THAT(elements(load(unsigned_)), ElementsAre(4e9));
}

TEST(OnnxTensor, PackedIntegersBecomeBytes) {
    EXPECT_THAT(elements(load(raw<std::uint8_t>(TP::INT4, {3}, {0x8F, 0x07}))),
                ElementsAre(-1, -8, 7));
    EXPECT_THAT(elements(load(raw<std::uint8_t>(TP::UINT4, {3}, {0x8F, 0x07}))),
                ElementsAre(15, 8, 7));
    EXPECT_THAT(elements(load(raw<std::uint8_t>(TP::INT2, {4}, {0b11100100}))),
                ElementsAre(0, 1, -2, -1));
    TP proto = tensor_proto("w", TP::UINT4, {3});
    proto.add_int32_data(0x21);
    proto.add_int32_data(0x03);
    EXPECT_THAT(elements(load(proto)), ElementsAre(1, 2, 3));
}

TEST(OnnxTensor, WithoutElements) {
    EXPECT_EQ(load(tensor_proto("w", TP::FLOAT, {0, 3})).shape(), (Ints{0, 3}));
    EXPECT_EQ(load(raw<float>(TP::FLOAT, {2, 0}, {})).size(), 0);
}

TEST(OnnxTensor, DataMustFitTheDims) {
    EXPECT_THAT(problem(raw<float>(TP::FLOAT, {4}, {1, 2})),
                HasSubstr("initializer 'w': 8 bytes of data, but FLOAT[4] needs 16"));
    EXPECT_THAT(problem(floats("w", {4}, {1, 2})), HasSubstr("2 values of data"));
    EXPECT_THAT(problem(tensor_proto("w", TP::FLOAT, {4})), HasSubstr("0 values of data"));
    EXPECT_THAT(problem(raw<float>(TP::FLOAT, {-4}, {1})), HasSubstr("broken"));
    TP both = raw<float>(TP::FLOAT, {1}, {1});
    both.add_float_data(1);
    EXPECT_THAT(problem(both), HasSubstr("both raw and typed"));
}

TEST(OnnxTensor, SizesAreCheckedBeforeAnythingIsAllocated) {
    const std::int64_t big = std::int64_t{1} << 32;
    EXPECT_THAT(problem(raw<float>(TP::FLOAT, {big, big, 4}, {1, 2, 3, 4})), HasSubstr("broken"));
    EXPECT_THAT(problem(raw<float>(TP::FLOAT, {(std::int64_t{1} << 62) + 1, 4}, {1, 2, 3, 4})),
                HasSubstr("broken"));
    EXPECT_THAT(problem(raw<float>(TP::FLOAT, Ints(1000, 1), {1})), HasSubstr("rank 1000"));
    ModelBuilder m;
    m.graph().initializer(raw<float>(TP::FLOAT, {3}, {1, 2, 3})).output("w");
    EXPECT_THAT(m.problems({.max_weight_bytes = 8}), HasSubstr("limit of 8 bytes"));
}

TEST(OnnxTensor, TypesThatKnLacks) {
    TP text = tensor_proto("w", TP::STRING, {1});
    text.add_string_data("hello");
    EXPECT_THAT(problem(text), HasSubstr("unsupported: initializer 'w': element type STRING"));
    EXPECT_THAT(problem(raw<std::uint8_t>(TP::FLOAT8E4M3FN, {1}, {1})), HasSubstr("FLOAT8E4M3FN"));
    EXPECT_THAT(problem(tensor_proto("w", 99, {1})), HasSubstr("number 99"));
    EXPECT_THAT(problem(tensor_proto("w", 0, {1})), HasSubstr("broken"));
}

TEST(OnnxTensor, DataSetFiles) {
    const auto path = std::filesystem::temp_directory_path() / "kn_tensor_test.pb";
    std::ofstream(path) << floats("x", {2, 1}, {3, 4}).SerializeAsString();
    std::string name;
    const Tensor t = read_tensor_pb(path, &name);
    EXPECT_EQ(name, "x");
    EXPECT_EQ(t.type_string(), "f32[2, 1]");
    EXPECT_THAT(elements(t), ElementsAre(3, 4));
    std::ofstream(path) << "not a tensor";
    EXPECT_THROW((void)read_tensor_pb(path), OnnxError);
    std::filesystem::remove(path);
    EXPECT_THROW((void)read_tensor_pb(path), OnnxError);
}

}  // namespace
}  // namespace kn::test
