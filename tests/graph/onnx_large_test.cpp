// Large raw data of initializers goes past protobuf, and is what protobuf would have read.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>

#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graph/onnx_builder.h"
#include "onnx/model_file.h"

namespace kn::test {
namespace {

using TP = pb::TensorProto;
using testing::HasSubstr;

constexpr std::size_t large = 64 * 1024;
constexpr int graph_field = 7, initializer_field = 5, dims_field = 1, type_field = 2,
              name_field = 8, raw_field = 9;

// ---- protobuf by hand, for what its writers would not write ----

std::string varint(std::uint64_t value) {
    std::string out;
    for (; value > 127; value >>= 7) out += static_cast<char>((value & 127) | 128);
    return out + static_cast<char>(value);
}
std::string head(int number, std::uint64_t size) {
    return varint(static_cast<std::uint64_t>(number) << 3 | 2) + varint(size);
}
std::string field(int number, const std::string& content) {
    return head(number, content.size()) + content;
}
std::string number_field(int number, std::uint64_t value) {
    return varint(static_cast<std::uint64_t>(number) << 3) + varint(value);
}
std::string noise(std::size_t size, unsigned seed) {
    std::mt19937 random(seed);
    std::string out(size, '\0');
    for (char& c : out) c = static_cast<char>(random());
    return out;
}
std::string bytes_tensor(const std::string& name, const std::string& raw) {
    return number_field(dims_field, raw.size()) + number_field(type_field, TP::UINT8) +
           field(name_field, name) + field(raw_field, raw);
}
std::string model_of(const std::string& graph) {
    return number_field(1, 8) + field(graph_field, graph) + field(8, number_field(2, 17));
}

// ---- the same by protobuf alone ----

std::span<const std::byte> bytes_of(const std::string& text) {
    return std::as_bytes(std::span(text));
}

struct Parsed {
    bool good = false;
    std::size_t large = 0;  ///< fields that went past protobuf
    std::string text;       ///< of all messages, or the error
};

Parsed parsed(const std::string& bytes) {
    try {
        onnx::ModelFile file{onnx::Source(bytes_of(bytes))};
        const std::size_t count = file.large.size();
        for (auto& tensor : *file.proto.mutable_graph()->mutable_initializer())
            if (const auto found = file.large.find(&tensor); found != file.large.end()) {
                EXPECT_FALSE(tensor.has_raw_data());
                const auto raw = found->second.bytes;
                tensor.set_raw_data(raw.data(), raw.size());
            }
        return {true, count, file.proto.SerializePartialAsString()};
    } catch (const OnnxError& error) {
        return {false, 0, error.what()};
    }
}

Parsed by_protobuf(const std::string& bytes) {
    try {
        pb::ModelProto model;
        onnx::parse(onnx::Source(bytes_of(bytes)), model);
        (void)model.mutable_graph();
        return {true, 0, model.SerializePartialAsString()};
    } catch (const OnnxError& error) {
        return {false, 0, error.what()};
    }
}

/// How many fields went past protobuf to the same result.
std::size_t large_fields(const std::string& bytes) {
    const Parsed ours = parsed(bytes), reference = by_protobuf(bytes);
    EXPECT_EQ(ours.good, reference.good);
    EXPECT_TRUE(ours.text == reference.text);
    return ours.large;
}

class OnnxLarge : public testing::Test {
  protected:
    ~OnnxLarge() override { std::filesystem::remove(path); }
    void write(const std::string& bytes) const { std::ofstream(path, std::ios::binary) << bytes; }
    const std::filesystem::path path =
        std::filesystem::temp_directory_path() / ("kn_large_" + std::to_string(getpid()) + ".onnx");
};

TEST_F(OnnxLarge, TensorsHaveTheBytesOfTheFile) {
    struct Case {
        int type;
        std::int64_t elements;
        std::size_t bytes;
    };
    ModelBuilder m;
    std::vector<std::string> written;
    for (const auto& [type, elements, bytes] : {Case{TP::FLOAT, 40000, 160000},
                                                {TP::FLOAT, 3, 12},
                                                {TP::FLOAT16, 40001, 80002},
                                                {TP::BFLOAT16, 32768, 65536},
                                                {TP::INT64, 9000, 72000},
                                                {TP::DOUBLE, 8192, 65536},
                                                {TP::UINT8, 65535, 65535},
                                                {TP::INT8, 5000001, 5000001},
                                                {TP::FLOAT, 700000, 2800000}}) {
        const std::string name = "w" + std::to_string(written.size());
        TP proto = tensor_proto(name, type, {elements});
        written.push_back(noise(bytes, static_cast<unsigned>(written.size())));
        proto.set_raw_data(written.back());
        m.graph().initializer(proto).output(name);
    }
    EXPECT_EQ(large_fields(m.bytes()), 7u);
    write(m.bytes());
    for (const Graph& graph : {load_onnx(path), m.load()})
        for (std::size_t i = 0; i < written.size(); i++) {
            const Tensor& tensor = constant_output(graph, i);
            EXPECT_TRUE(std::ranges::equal(tensor.bytes(), bytes_of(written[i]))) << i;
            const auto address = reinterpret_cast<std::uintptr_t>(tensor.identity());
            EXPECT_EQ(address % size_of(tensor.dtype()), 0u);
        }
    EXPECT_EQ(read_onnx_info(path).outputs.size(), written.size());
}

TEST_F(OnnxLarge, ElementsThatAreHeldInAnotherWay) {
    ModelBuilder m;
    const std::string raw = noise(300000, 1);
    for (const auto& [name, type, elements] : {std::tuple{"flags", TP::BOOL, 300000},
                                               {"halves", TP::INT4, 600000},
                                               {"quarters", TP::UINT2, 1200000}}) {
        TP proto = tensor_proto(name, type, {elements});
        proto.set_raw_data(raw);
        m.graph().initializer(proto).output(name);
    }
    const Graph graph = m.load();
    bool good = true;
    for (std::size_t i = 0; i < 1200000; i++) {
        const auto at = [&](std::size_t output) {
            return constant_output(graph, output).int_at(static_cast<std::int64_t>(i));
        };
        const auto byte = [&](std::size_t k) { return static_cast<std::uint8_t>(raw[k]); };
        if (i < 300000) good &= at(0) == (byte(i) != 0);
        if (i < 600000) {
            const int half = byte(i / 2) >> i % 2 * 4 & 15;
            good &= at(1) == (half < 8 ? half : half - 16);
        }
        good &= at(2) == (byte(i / 4) >> i % 4 * 2 & 3);
    }
    EXPECT_TRUE(good);
}

TEST_F(OnnxLarge, FieldsInAnyOrder) {
    const std::string raw = noise(large, 2);
    const std::string first = field(raw_field, raw) + number_field(dims_field, 4) +
                              field(name_field, "a") + number_field(dims_field, large / 4) +
                              number_field(type_field, TP::UINT8);
    const std::string strange = field(99, "unknown") + number_field(77, 5) +
                                bytes_tensor("b", raw) + varint(90 << 3 | 3) + varint(90 << 3 | 4);
    const std::string node = field(1, field(4, "Relu"));
    EXPECT_EQ(large_fields(field(graph_field, field(initializer_field, first) + node) +
                           number_field(1, 8)),
              1u);
    EXPECT_EQ(large_fields(model_of(node + field(initializer_field, strange) + node +
                                    field(initializer_field, first) + field(2, "name"))),
              2u);
    EXPECT_EQ(large_fields(model_of(node)), 0u);
}

TEST_F(OnnxLarge, WhatProtobufWouldMergeIsLeftToIt) {
    const std::string raw = noise(large, 3);
    const std::string once = field(initializer_field, bytes_tensor("a", raw));
    EXPECT_EQ(large_fields(model_of(once)), 1u);
    EXPECT_EQ(large_fields(model_of(once) + field(graph_field, once)), 0u);
    const std::string twice = bytes_tensor("b", raw) + field(raw_field, "short");
    EXPECT_EQ(large_fields(model_of(field(initializer_field, twice) + once)), 1u);
}

TEST_F(OnnxLarge, BrokenFilesAreRefusedAsByProtobuf) {
    const std::string raw = noise(large, 4);
    const std::string graph = field(initializer_field, bytes_tensor("a", raw)) +
                              field(initializer_field, bytes_tensor("b", raw));
    const std::string good = model_of(graph);
    EXPECT_EQ(large_fields(good), 2u);
    for (const std::size_t size : {std::size_t{1}, std::size_t{3}, large / 2, large + 10,
                                   large + 40, good.size() - large / 2, good.size() - 1})
        EXPECT_EQ(large_fields(good.substr(0, size)), 0u) << size;
    for (const std::string& behind : {std::string("garbage"), std::string(4, '\0'), head(7, 1)})
        EXPECT_EQ(large_fields(good + behind), 0u);
    for (const std::uint64_t lie : {std::uint64_t{1} << 40, (std::uint64_t{1} << 40) + large,
                                    std::uint64_t{1} << 31, std::uint64_t{large + 1}}) {
        const std::string tensor = field(name_field, "a") + head(raw_field, lie) + raw;
        EXPECT_EQ(large_fields(model_of(field(initializer_field, tensor))), 0u) << lie;
        const std::string whole = head(initializer_field, lie) + bytes_tensor("a", raw);
        EXPECT_EQ(large_fields(model_of(whole)), 0u) << lie;
    }
    // 64 KiB in a varint that is longer than it needs to be: fine for protobuf.
    const std::string padded = "\x80\x80\x84" + std::string(1, '\0');
    const std::string tensor = varint(raw_field << 3 | 2) + padded + raw;
    EXPECT_EQ(large_fields(model_of(field(initializer_field, tensor))), 0u);
    EXPECT_TRUE(parsed(model_of(field(initializer_field, tensor))).good);
}

TEST_F(OnnxLarge, MutatedFilesAreReadAsByProtobuf) {
    const std::string raw = noise(large, 5);
    const std::string good =
        model_of(field(1, field(4, "Relu")) + field(initializer_field, bytes_tensor("a", raw)) +
                 field(initializer_field, floats("c", {2}, {1, 2}).SerializeAsString()) +
                 field(initializer_field, bytes_tensor("b", raw)) + field(2, "name"));
    std::vector<std::size_t> heads;  // positions outside raw data
    for (std::size_t at = 0; at < good.size(); at++) {
        if (good.compare(at, raw.size(), raw) == 0) at += raw.size();
        if (at < good.size()) heads.push_back(at);
    }
    ASSERT_LT(heads.size(), 200u);
    std::mt19937 random(6);
    std::size_t past = 0;
    for (int i = 0; i < 4000; i++) {
        std::string bytes = good;
        for (unsigned k = random() % 3 + 1; k > 0; k--) {
            char& c = bytes[heads[random() % heads.size()]];
            c = static_cast<char>(random() % 2 ? random() : c ^ (1 << random() % 8));
        }
        past += large_fields(bytes);
        ASSERT_FALSE(HasFailure()) << "mutation " << i;
    }
    EXPECT_GT(past, 100u);
}

TEST_F(OnnxLarge, LaterChangesOfTheFileDoNotMatter) {
    const std::string raw = noise(large, 7);
    const std::string bytes =
        model_of(field(initializer_field, bytes_tensor("a", raw)) + field(12, field(1, "a")));
    write(bytes);
    const Graph graph = load_onnx(path);
    write(std::string(bytes.size(), 'x'));
    EXPECT_TRUE(std::ranges::equal(constant_output(graph).bytes(), bytes_of(raw)));
}

TEST_F(OnnxLarge, AFileThatBecomesShorterMeanwhile) {
    write(model_of(field(initializer_field, bytes_tensor("a", noise(large, 8)))));
    const onnx::Source source(path);
    const onnx::Outline outline = onnx::outline_of(source);
    ASSERT_EQ(outline.large.size(), 1u);
    pb::GraphProto graph;
    graph.add_initializer();
    std::filesystem::resize_file(path, large);
    EXPECT_THROW((void)onnx::read_large_data(source, outline.large, graph), OnnxError);
    EXPECT_THROW(onnx::ModelFile{source}, OnnxError);
}

TEST_F(OnnxLarge, DataMustFitTheDims) {
    ModelBuilder m;
    TP proto = tensor_proto("w", TP::FLOAT, {large});
    proto.set_raw_data(noise(large, 9));
    m.graph().initializer(proto).output("w");
    EXPECT_THAT(m.problems(), HasSubstr("initializer 'w': 65536 bytes of data, but FLOAT[65536] "
                                        "needs 262144"));
}

}  // namespace
}  // namespace kn::test
