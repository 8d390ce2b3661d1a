// Times whole runs of layers in the shapes of well-known networks, whose weights come from memory
// each time, with all of the planner's rules and without one of them, in turns.
//
//     bench_chains [--overlap] --without "norms beside products" res8 llama bert1
//
// resN: residual blocks of a diffusion network at NxN; llama: prefill of 512; bertN, resnetN: of N.
// res8one: all blocks have one weight, which stays in the L2 cache. Weights are random halves, each
// another stretch of one long row of numbers. --overlap: kernels of ours start early.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <fmt/core.h>

#include <kn/cuda_eval/executor.h>
#include <kn/cuda_sys/event.h>
#include <kn/graph/builder.h>
#include <kn/graph/random.h>

namespace {

using namespace kn;

class Layers {
  public:
    Graph graph;

    Var w(const Ints& shape) {
        const auto bytes = static_cast<std::size_t>(checked_size(shape)) * 2;
        start_ = (start_ + 4099 * 2) % (pool().byte_size() - bytes);
        return graph.constant(
            Tensor::from_bytes(DType::F16, shape, pool().bytes().subspan(start_, bytes)));
    }
    Var conv(const Var& x, std::int64_t from, std::int64_t to, std::int64_t kernel,
             std::int64_t stride = 1) {
        const std::int64_t pad = kernel / 2;
        return kn::conv(x, w({to, from, kernel, kernel}), w({to}),
                        {.strides = {stride, stride}, .pads = {pad, pad, pad, pad}});
    }
    Var heads(const Var& x, std::int64_t batch, std::int64_t rows, std::int64_t count,
              std::int64_t width) {
        return permute(reshape(x, Shape::of({batch, rows, count, width})), {0, 2, 1, 3});
    }
    Var rows(const Var& x, std::int64_t batch, std::int64_t rows, std::int64_t width) {
        return reshape(permute(x, {0, 2, 1, 3}), Shape::of({batch, rows, width}));
    }

  private:
    static const Tensor& pool() {
        static const Tensor all = [] {
            Tensor values(DType::F32, {std::int64_t{1} << 20});
            Random random(1);
            for (float& x : values.mutable_data<float>())
                x = static_cast<float>(0.03 * random.normal());
            const Tensor halves = values.cast(DType::F16);
            constexpr std::size_t times = 48;
            Tensor many(DType::F16, {static_cast<std::int64_t>(times) << 20});
            for (std::size_t i = 0; i < times; i++)
                std::ranges::copy(halves.bytes(),
                                  many.mutable_bytes().begin() +
                                      static_cast<std::ptrdiff_t>(i * halves.byte_size()));
            return many;
        }();
        return all;
    }
    std::size_t start_ = 0;
};

// Residual blocks of a diffusion network, channels * size * size.
Graph residual(std::int64_t channels, std::int64_t size, int blocks, bool one = false) {
    Layers net;
    const Var only = net.w({channels, channels, 3, 3});
    Var x = net.graph.input("x", DType::F16, Shape::of({2, channels, size, size}));
    const auto half = [&](const Var& y) {
        const Var normed = silu(group_norm(y, 32, net.w({channels}), net.w({channels})));
        if (one) return conv(normed, only, net.w({channels}), {.pads = {1, 1, 1, 1}});
        return net.conv(normed, channels, channels, 3);
    };
    for (int i = 0; i < blocks; i++) x = x + half(half(x));
    net.graph.output("y", x);
    return std::move(net.graph);
}

Graph llama(int layers) {
    constexpr std::int64_t n = 512, width = 2048, inner = 8192;
    Layers net;
    Var x = net.graph.input("x", DType::F16, Shape::of({1, n, width}));
    for (int i = 0; i < layers; i++) {
        const Var a = rms_norm(x, net.w({width}));
        const Var q = net.heads(matmul(a, net.w({width, 2048})), 1, n, 32, 64);
        const Var k = net.heads(matmul(a, net.w({width, 512})), 1, n, 8, 64);
        const Var v = net.heads(matmul(a, net.w({width, 512})), 1, n, 8, 64);
        const Var o = attention(q, k, v, {}, 0, CausalMask::TopLeft);
        x = x + matmul(net.rows(o, 1, n, width), net.w({width, width}));
        const Var b = rms_norm(x, net.w({width}));
        const Var up = silu(matmul(b, net.w({width, inner}))) * matmul(b, net.w({width, inner}));
        x = x + matmul(up, net.w({inner, width}));
    }
    net.graph.output("y", x);
    return std::move(net.graph);
}

Graph bert(std::int64_t batch, int layers) {
    constexpr std::int64_t n = 128, width = 768;
    Layers net;
    Var x = net.graph.input("x", DType::F16, Shape::of({batch, n, width}));
    const auto projected = [&](const Var& y, std::int64_t from, std::int64_t to) {
        return linear(y, net.w({from, to}), net.w({to}));
    };
    for (int i = 0; i < layers; i++) {
        const auto part = [&] { return net.heads(projected(x, width, width), batch, n, 12, 64); };
        const Var q = part(), k = part(), v = part();
        const Var o = net.rows(attention(q, k, v), batch, n, width);
        x = layer_norm(x + projected(o, width, width), net.w({width}), net.w({width}));
        const Var up = gelu(projected(x, width, 4 * width));
        x = layer_norm(x + projected(up, 4 * width, width), net.w({width}), net.w({width}));
    }
    net.graph.output("y", x);
    return std::move(net.graph);
}

Graph resnet50(std::int64_t batch) {
    Layers net;
    Var x = net.graph.input("x", DType::F16, Shape::of({batch, 3, 224, 224}));
    x = relu(net.conv(x, 3, 64, 7, 2));
    x = max_pool(x, {3, 3}, {.strides = {2, 2}, .pads = {1, 1, 1, 1}});
    std::int64_t from = 64;
    const int counts[] = {3, 4, 6, 3};
    for (int stage = 0; stage < 4; stage++)
        for (int i = 0; i < counts[stage]; i++) {
            const std::int64_t inner = 64 << stage, to = 4 * inner;
            const std::int64_t stride = stage > 0 && i == 0 ? 2 : 1;
            const Var skip = i == 0 ? net.conv(x, from, to, 1, stride) : x;
            const Var y =
                relu(net.conv(relu(net.conv(x, from, inner, 1)), inner, inner, 3, stride));
            x = relu(net.conv(y, inner, to, 1) + skip);
            from = to;
        }
    net.graph.output("y", linear(mean(x, {2, 3}), net.w({2048, 1000}), net.w({1000})));
    return std::move(net.graph);
}

const std::map<std::string, std::function<Graph()>> chains = {
    {"res8", [] { return residual(1280, 8, 6); }},
    {"res8one", [] { return residual(1280, 8, 6, true); }},
    {"res16", [] { return residual(1280, 16, 3); }},
    {"res32", [] { return residual(640, 32, 4); }},
    {"llama", [] { return llama(6); }},
    {"bert8", [] { return bert(8, 12); }},
    {"bert1", [] { return bert(1, 12); }},
    {"resnet1", [] { return resnet50(1); }},
    {"resnet8", [] { return resnet50(8); }},
};

struct Form {
    std::string label;
    std::unique_ptr<cuda::Executor> executor;
    std::vector<double> us = {};
};

double at(std::vector<double> values, double share) {
    std::ranges::sort(values);
    return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1))];
}

void time_in_turns(std::vector<Form>& forms, const Graph& graph) {
    const cuda::Device gpu(0);
    const cuda::Stream stream(gpu);
    const std::vector<Tensor> given = random_inputs(graph);
    const Tensor result = forms[0].executor->run(given).at(0);
    cuda::DeviceMemory x(gpu, given[0].byte_size()), y(gpu, result.byte_size());
    cuda::copy_bytes_async(stream, x.data(), given[0].bytes().data(), given[0].byte_size());
    const std::vector<const void*> in = {x.data()};
    const std::vector<void*> out = {y.data()};
    constexpr int rounds = 40, runs = 8;
    std::vector<cuda::Event> events;
    for (int i = 0; i <= runs; i++) events.emplace_back(gpu);
    for (int round = 0; round < rounds + 4; round++)
        for (Form& form : forms) {
            for (int i = 0; i <= runs; i++) {
                if (i > 0) form.executor->run(stream, in, out);
                events[static_cast<std::size_t>(i)].record(stream);
            }
            stream.synchronize();
            for (std::size_t i = 3; round >= 4 && i < events.size(); i++)
                form.us.push_back(1e3 * cuda::elapsed_ms(events[i - 1], events[i]));
        }
    for (const Form& form : forms)
        std::printf("    %-26s median %8.1f  least %8.1f us  (%+.2f %%)\n", form.label.c_str(),
                    at(form.us, 0.5), at(form.us, 0.02),
                    100 * (at(form.us, 0.5) / at(forms[0].us, 0.5) - 1));
    std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) try {
    std::set<std::string> without;
    cuda::Overlap overlap = cuda::Overlap::None;
    std::vector<std::string> names;
    for (int i = 1; i < argc; i++) {
        const std::string word = argv[i];
        if (word == "--without")
            without.insert(argv[++i]);
        else if (word == "--overlap")
            overlap = cuda::Overlap::Own;
        else
            names.push_back(word);
    }
    for (const std::string& name : names) {
        const Graph graph = chains.at(name)();
        std::vector<Form> forms;
        const auto add = [&](const std::string& label, const std::set<std::string>& disabled) {
            const auto plan = std::make_shared<const cuda::Plan>(
                cuda::plan(graph, cuda::Device(0).properties(),
                           {.precision = Precision::F16, .disabled_rules = disabled}));
            forms.push_back(
                {label, std::make_unique<cuda::Executor>(
                            plan, cuda::Device(0), cuda::ExecutorOptions{.overlap = overlap})});
        };
        add("all rules", {});
        for (const std::string& rule : without) add("without " + rule, {rule});
        std::printf("%s, %zu steps, %.0f MB of weights\n", name.c_str(),
                    forms[0].executor->plan().steps.size(),
                    static_cast<double>(forms[0].executor->plan().constant_bytes) / 1e6);
        time_in_turns(forms, graph);
    }
    return 0;
} catch (const std::exception& error) {
    fmt::print(stderr, "bench_chains: {}\n", error.what());
    return 1;
}
