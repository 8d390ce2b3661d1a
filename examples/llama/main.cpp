// Answers a prompt with a chat model of the LLaMA architecture, always taking the likeliest word.
//
//     examples/llama/export.py                                    # once: SmolLM2-135M-Instruct
//     llama --prompt "What is the capital of France?"
#include <CLI/CLI.hpp>

#include <chrono>
#include <cstdio>
#include <exception>
#include <map>
#include <string>

#include "llama/chat_model.h"

namespace {

struct Arguments {
    std::string prompt, model = KN_LLAMA_MODEL, device = "auto";
    std::string system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face";
    kn::Precision precision = kn::Precision::F32;
    std::size_t tokens = 200;
    int threads = 0;
    bool plain = false;
};

kn::Device device_of(const std::string& text) {
    if (text == "auto") return kn::Device::best();
    if (text == "cpu") return kn::Device::cpu();
    return kn::Device::cuda(text == "cuda" ? 0 : std::stoi(text.substr(5)));
}

double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void answer(const Arguments& arguments) {
    auto start = std::chrono::steady_clock::now();
    kn::NetworkOptions options;
    options.device = device_of(arguments.device);
    options.precision = arguments.precision;
    options.threads = arguments.threads;
    ChatModel model(arguments.model, options);
    std::vector<std::int64_t> ids = arguments.plain
                                        ? model.tokens(arguments.prompt)
                                        : model.conversation(arguments.system, arguments.prompt);
    const std::size_t given = ids.size();
    std::fprintf(stderr, "llama: %s, %s, loaded in %.2f s; %zu tokens given\n",
                 options.device.to_string().c_str(), kn::name_of(options.precision).c_str(),
                 seconds_since(start), given);
    start = std::chrono::steady_clock::now();
    double first = 0;
    while (ids.size() - given < arguments.tokens && ids.size() < model.context()) {
        ids.push_back(model.next(ids));
        if (first == 0) first = seconds_since(start);
        if (ids.back() == model.end()) break;
        std::fputs(model.text(std::span(ids).last(1)).c_str(), stdout);
        std::fflush(stdout);
    }
    std::puts("");
    const double seconds = seconds_since(start);
    std::fprintf(stderr, "llama: %zu tokens in %.2f s (first after %.2f s, then %.1f a second)\n",
                 ids.size() - given, seconds, first,
                 static_cast<double>(ids.size() - given - 1) / std::max(seconds - first, 1e-9));
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"Answers a prompt with a chat model of the LLaMA architecture."};
    Arguments arguments;
    const std::map<std::string, kn::Precision> precisions = {{"f32", kn::Precision::F32},
                                                             {"f64", kn::Precision::F64},
                                                             {"tf32", kn::Precision::TF32},
                                                             {"f16", kn::Precision::F16},
                                                             {"bf16", kn::Precision::BF16}};
    app.add_option("--prompt", arguments.prompt, "what to ask")->required();
    app.add_option("--system", arguments.system, "what the model is told about itself")
        ->capture_default_str();
    app.add_flag("--plain", arguments.plain, "continue the prompt as text, not as a conversation");
    app.add_option("--model", arguments.model, "the folder that export.py wrote")
        ->capture_default_str();
    app.add_option("--device", arguments.device, "auto, cpu, cuda or cuda:N")
        ->capture_default_str()
        ->check(CLI::IsMember({"auto", "cpu", "cuda"}) |
                CLI::Validator(
                    [](std::string& text) {
                        const bool fits =
                            text.size() > 5 && text.size() < 9 && text.starts_with("cuda:") &&
                            text.find_first_not_of("0123456789", 5) == std::string::npos;
                        return fits ? std::string() : "expected auto, cpu, cuda or cuda:N";
                    },
                    "cuda:N"));
    app.add_option("--precision", arguments.precision, "f32, tf32, f16, bf16 or f64")
        ->transform(CLI::CheckedTransformer(precisions))
        ->default_str("f32");
    app.add_option("--tokens", arguments.tokens, "at most so many")
        ->capture_default_str()
        ->check(CLI::PositiveNumber);
    app.add_option("--threads", arguments.threads, "of the CPU; 0: all")
        ->check(CLI::Range(0, 1024));
    CLI11_PARSE(app, argc, argv);
    try {
        answer(arguments);
    } catch (const kn::DeviceError& error) {
        std::fprintf(stderr, "llama: %s\n", error.what());
        return 3;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "llama: %s\n", error.what());
        return 1;
    }
    return 0;
}
