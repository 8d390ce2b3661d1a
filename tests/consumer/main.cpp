// What the README and the design show, on a network given on the command line: f32[batch, 4, 8, 8]
// in.
#include <kn/graph.h>

#ifdef CONSUMER_HAS_UMBRELLA
#include <kn/kn.h>
#if __has_include(<kn/cuda_sys/device.h>)
#define CONSUMER_HAS_CUDA
#include <kn/cuda_sys/device.h>
#endif
#endif

#include <cmath>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

namespace {

std::vector<kn::Tensor> run_in_parts(const char* path, const std::vector<float>& pixels) {
    const kn::Tensor x = kn::Tensor::from_span<float>({2, 4, 8, 8}, pixels);
    kn::Graph g = kn::load_onnx(path);
    g = kn::optimize(g);
    auto y = kn::cpu::run(g.bind({{"batch", 2}}), {x});
    return y;
}

#ifdef CONSUMER_HAS_UMBRELLA
std::vector<kn::Tensor> run_whole(const char* path, const std::vector<float>& pixels) {
    auto net =
        kn::Network::load(path, {.device = kn::Device::best(), .precision = kn::Precision::F32});
    net.prepare({{"batch", 2}});
    std::vector<kn::Tensor> out = net.run({kn::Tensor::from_span<float>({2, 4, 8, 8}, pixels)});
    return out;
}
#endif

void build_in_code() {
    kn::Graph g;
    const kn::Var x = g.input("x", kn::DType::F32, {kn::Dim::symbol("batch"), 2});
    g.output("y", kn::relu(x) * 2.0);
    const std::vector<float> values = {-1, 1, 2, -3};
    const auto y = kn::cpu::run(g, {kn::Tensor::from_span<float>({2, 2}, values)});
    std::printf("%srelu(1) * 2 = %g\n", g.to_string().c_str(), y[0].at(1));
}

// Libraries that are loaded when they are needed are found from here too.
bool finds_libraries() {
    bool all = true;
#ifdef CONSUMER_HAS_CUDA
    for (const std::string& missing : kn::cuda::missing_libraries()) {
        std::printf("%s\n", missing.c_str());
        all = false;
    }
#endif
    return all;
}

}  // namespace

int main(int, char** argv) try {
    std::printf("kn %s\n", kn::version());
    build_in_code();
    std::vector<float> pixels(2 * 4 * 8 * 8);
    for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = std::sin(static_cast<float>(i));
    const std::vector<kn::Tensor> parts = run_in_parts(argv[1], pixels);
    std::printf("%s\n", parts[0].type_string().c_str());
#ifdef CONSUMER_HAS_UMBRELLA
    const std::vector<kn::Tensor> whole = run_whole(argv[1], pixels);
    for (std::int64_t i = 0; i < parts[0].size(); ++i) {
        if (std::abs(parts[0].at(i) - whole[0].at(i)) > 1e-4) {
            std::printf("element %d differs\n", static_cast<int>(i));
            return 1;
        }
    }
#endif
    return finds_libraries() ? 0 : 1;
} catch (const std::exception& error) {
    std::fprintf(stderr, "consumer: %s\n", error.what());
    return 1;
}
