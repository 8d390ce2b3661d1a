// The f64 mode, which is the reference for float32, against references made in double
// (tests/data/f64/make.py).
#include <gtest/gtest.h>

#include <filesystem>

#include <kn/graph/network.h>
#include <kn/graph/npy.h>
#include <kn/testing/compare.h>

namespace kn {
namespace {

const std::filesystem::path data = KN_TEST_DATA;

class F64 : public ::testing::TestWithParam<std::tuple<const char*, bool>> {};

TEST_P(F64, AgreesToNineDigits) {
    const auto& [name, optimized] = GetParam();
    const std::filesystem::path folder = data / "zoo" / name;
    Network network =
        Network::load(folder / "model.onnx", {.precision = Precision::F64, .optimize = optimized});
    std::map<std::string, Tensor> inputs;
    for (std::size_t i = 0; i < network.input_names().size(); i++) {
        std::string input;
        Tensor tensor = read_tensor_pb(
            folder / "test_data_set_0" / ("input_" + std::to_string(i) + ".pb"), &input);
        inputs[input] = std::move(tensor);
    }
    const std::vector<Tensor> got = network.run(inputs);
    for (std::size_t i = 0; i < got.size(); i++) {
        const Tensor expected =
            read_npy(data / "f64" / (std::string(name) + "_output_" + std::to_string(i) + ".npy"));
        const auto difference =
            testing::compare(got[i], expected, {.rtol = 0, .atol_of_peak = 1e-9});
        EXPECT_TRUE(difference.equal) << "kn run --precision f64 " << folder << ": output " << i
                                      << ": " << difference.message;
    }
}

INSTANTIATE_TEST_SUITE_P(
    Zoo, F64,
    ::testing::Combine(::testing::Values("clip_text-script", "convnet_opset15", "encodec-script",
                                         "gpt2-dynamo", "if_on_data", "llama-dynamo",
                                         "llama_cache_op20-dynamo", "llama_kv_step-script",
                                         "mamba-dynamo", "moe_soft-script", "phi3-dynamo",
                                         "t5_encoder-dynamo", "timm_densenet121-dynamo",
                                         "vae_decoder-dynamo", "video_conv3d-script"),
                       ::testing::Bool()));

}  // namespace
}  // namespace kn
