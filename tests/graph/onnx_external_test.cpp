// External data: mapped from the model's folder and from nowhere else.
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "graph/onnx_builder.h"

namespace kn::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

/// A folder with a model of one weight of four floats, in the file and place given.
class OnnxExternal : public testing::Test {
  protected:
    OnnxExternal() {
        folder = fs::temp_directory_path() / ("kn_external_" + std::to_string(getpid()));
        fs::remove_all(folder);
        fs::create_directories(folder / "model" / "sub");
        fs::create_directories(folder / "elsewhere");
        write(folder / "model" / "w.bin");
        write(folder / "elsewhere" / "w.bin");
    }
    ~OnnxExternal() override { fs::remove_all(folder); }

    static void write(const fs::path& path) {
        const std::vector<float> values = {0, 1, 2, 3, 4, 5};
        std::ofstream(path, std::ios::binary)
            .write(reinterpret_cast<const char*>(values.data()), 24);
    }
    ModelBuilder model(const std::string& location, const std::string& offset,
                       const std::string& length) const {
        ModelBuilder m;
        pb::TensorProto w = tensor_proto("w", pb::TensorProto::FLOAT, {4});
        w.set_data_location(pb::TensorProto::EXTERNAL);
        for (const auto& [key, value] : {std::pair<std::string, std::string>{"location", location},
                                         {"offset", offset},
                                         {"length", length}}) {
            if (value.empty()) continue;
            auto* entry = w.add_external_data();
            entry->set_key(key);
            entry->set_value(value);
        }
        m.graph().initializer(w).output("w");
        return m;
    }
    Graph load(const std::string& location, const std::string& offset = "",
               const std::string& length = "", const LoadOptions& options = {}) const {
        const fs::path path = folder / "model" / "model.onnx";
        std::ofstream(path) << model(location, offset, length).bytes();
        return load_onnx(path, options);
    }
    std::string problem(const std::string& location, const std::string& offset = "",
                        const std::string& length = "") const {
        try {
            (void)load(location, offset, length);
        } catch (const OnnxError& error) {
            return error.what();
        }
        return "";
    }
    fs::path folder;
};

TEST_F(OnnxExternal, IsReadAtItsOffset) {
    EXPECT_EQ(constant_output(load("w.bin")).at(3), 3);
    EXPECT_EQ(constant_output(load("w.bin", "8", "16")).at(3), 5);
    EXPECT_EQ(constant_output(load("./w.bin", "4")).at(0), 1);
    write(folder / "model" / "sub" / "v.bin");
    EXPECT_EQ(constant_output(load("sub/v.bin")).at(1), 1);
}

TEST_F(OnnxExternal, AnUnalignedOffsetIsFine) {
    std::ofstream(folder / "model" / "odd.bin") << std::string("x") + std::string(16, '\0');
    EXPECT_EQ(constant_output(load("odd.bin", "1")).at(3), 0);
}

TEST_F(OnnxExternal, NeverLeavesTheFolder) {
    EXPECT_THAT(problem("../elsewhere/w.bin"), HasSubstr("'..'"));
    EXPECT_THAT(problem("sub/../w.bin"), HasSubstr("'..'"));
    EXPECT_THAT(problem((folder / "model" / "w.bin").string()), HasSubstr("absolute"));
    fs::create_symlink("../elsewhere/w.bin", folder / "model" / "link.bin");
    EXPECT_THAT(problem("link.bin"), HasSubstr("symbolic link"));
    fs::create_directory_symlink("../elsewhere", folder / "model" / "dir");
    EXPECT_THAT(problem("dir/w.bin"), HasSubstr("symbolic link"));
    fs::create_symlink("w.bin", folder / "model" / "inside.bin");
    EXPECT_EQ(problem("inside.bin"), "") << "a link within the folder is fine";
    EXPECT_EQ(
        constant_output(load("link.bin", "", "", {.external_roots = {folder / "elsewhere"}})).at(2),
        2);
}

TEST_F(OnnxExternal, OnlyRegularFiles) {
    ASSERT_EQ(mkfifo((folder / "model" / "fifo").c_str(), 0600), 0);
    EXPECT_THAT(problem("fifo"), HasSubstr("no regular file"));
    EXPECT_THAT(problem("sub"), HasSubstr("no regular file"));
    EXPECT_THAT(problem("."), HasSubstr("external data"));
    EXPECT_THAT(problem(""), HasSubstr("no file name"));
    EXPECT_THAT(problem("absent.bin"), HasSubstr("external data 'absent.bin'"));
}

TEST_F(OnnxExternal, PlaceAndSizeAreChecked) {
    EXPECT_THAT(problem("w.bin", "12"), HasSubstr("reach beyond its end"));
    EXPECT_THAT(problem("w.bin", "18446744073709551612"), HasSubstr("reach beyond its end"));
    EXPECT_THAT(problem("w.bin", "-4"), HasSubstr("offset '-4'"));
    EXPECT_THAT(problem("w.bin", "four"), HasSubstr("offset 'four'"));
    EXPECT_THAT(problem("w.bin", "99999999999999999999"), HasSubstr("offset"));
    EXPECT_THAT(problem("w.bin", "0", "12"), HasSubstr("12 bytes"));
}

TEST_F(OnnxExternal, BytesNeedACallback) {
    const ModelBuilder m = model("some/where", "8", "16");
    EXPECT_THAT(m.problems(), HasSubstr("LoadOptions::external_data"));
    LoadOptions options;
    auto values = std::make_shared<std::vector<float>>(std::vector<float>{5, 6, 7, 8});
    options.external_data = [&](const std::string& location, std::uint64_t offset,
                                std::uint64_t length) {
        EXPECT_EQ(location, "some/where");
        EXPECT_EQ(offset, 8u);
        EXPECT_EQ(length, 16u);
        return ExternalBytes{std::as_bytes(std::span(*values)), values};
    };
    EXPECT_EQ(constant_output(m.load(options)).at(3), 8);
    options.external_data = [&](const std::string&, std::uint64_t, std::uint64_t) {
        return ExternalBytes{};
    };
    EXPECT_THAT(m.problems(options), HasSubstr("0 bytes given"));
}

TEST_F(OnnxExternal, SeededWeightsNeedNoFile) {
    const ModelBuilder m = model("absent", "", "");
    const Graph a = m.load({.random_weights = 1}), b = m.load({.random_weights = 1}),
                c = m.load({.random_weights = 2});
    EXPECT_EQ(constant_output(a).at(0), constant_output(b).at(0));
    EXPECT_NE(constant_output(a).at(0), constant_output(c).at(0));
}

}  // namespace
}  // namespace kn::test
