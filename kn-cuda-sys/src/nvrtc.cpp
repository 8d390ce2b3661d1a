#include "kn/cuda_sys/nvrtc.h"

#include <memory>

#include "check.h"
#include "nvrtc_functions.h"

namespace kn::cuda {

namespace {

void check_nvrtc(nvrtcResult status, const char* call, const char* file, int line,
                 const std::string& detail = "") {
    if (status == NVRTC_SUCCESS) return;
    detail::fail(ErrorSource::Nvrtc, call, status, detail::nvrtc().nvrtcGetErrorString(status),
                 false, file, line, detail);
}
#define KN_NVRTC_CHECK(call) check_nvrtc(detail::nvrtc().call, #call, __FILE__, __LINE__)

struct DestroyProgram {
    void operator()(_nvrtcProgram* program) const noexcept {
        detail::nvrtc().nvrtcDestroyProgram(&program);
    }
};
using Program = std::unique_ptr<_nvrtcProgram, DestroyProgram>;

std::string number_lines(const std::string& source) {
    std::string text;
    std::size_t begin = 0;
    for (int line = 1; begin < source.size(); ++line) {
        std::size_t end = std::min(source.find('\n', begin), source.size());
        text += fmt::format("{:4} | {}\n", line, source.substr(begin, end - begin));
        begin = end + 1;
    }
    return text;
}

std::string read_log(nvrtcProgram program) {
    std::size_t size = 0;
    KN_NVRTC_CHECK(nvrtcGetProgramLogSize(program, &size));
    std::string log(size, '\0');
    KN_NVRTC_CHECK(nvrtcGetProgramLog(program, log.data()));
    while (!log.empty() && (log.back() == '\0' || log.back() == '\n')) log.pop_back();
    return log;
}

Program create(const std::string& source, const CompileOptions& options) {
    std::vector<const char*> names, texts;
    for (const InMemoryHeader& header : options.headers) {
        names.push_back(header.name.c_str());
        texts.push_back(header.text.c_str());
    }
    nvrtcProgram raw = nullptr;
    KN_NVRTC_CHECK(nvrtcCreateProgram(&raw, source.c_str(), options.name.c_str(),
                                      static_cast<int>(names.size()), texts.data(), names.data()));
    Program program(raw);
    for (const std::string& expression : options.name_expressions)
        check_nvrtc(detail::nvrtc().nvrtcAddNameExpression(raw, expression.c_str()),
                    "nvrtcAddNameExpression", __FILE__, __LINE__, expression);
    return program;
}

}  // namespace

CompileError::CompileError(ErrorInfo info, std::string log, std::string numbered_source)
    : Error(std::move(info), fmt::format("log:\n{}\nsource:\n{}", log, numbered_source)),
      log_(std::move(log)),
      numbered_source_(std::move(numbered_source)) {}

CompiledProgram compile(const std::string& source, const CompileOptions& options) {
    bool cubin = options.arch.rfind("sm_", 0) == 0;
    KN_CUDA_REQUIRE(cubin || options.arch.rfind("compute_", 0) == 0, "compile",
                    "arch \"{}\" is neither sm_N nor compute_N", options.arch);
    Program program = create(source, options);

    std::vector<std::string> flags{"--gpu-architecture=" + options.arch, "--std=c++17"};
    flags.insert(flags.end(), options.flags.begin(), options.flags.end());
    for (const std::string& dir : options.include_dirs) flags.push_back("--include-path=" + dir);
    std::vector<const char*> raw_flags;
    for (const std::string& flag : flags) raw_flags.push_back(flag.c_str());

    nvrtcResult status = detail::nvrtc().nvrtcCompileProgram(
        program.get(), static_cast<int>(raw_flags.size()), raw_flags.data());
    CompiledProgram result;
    result.log = read_log(program.get());
    if (status == NVRTC_ERROR_COMPILATION)
        throw CompileError(
            {ErrorSource::Nvrtc, "nvrtcCompileProgram", detail::nvrtc().nvrtcGetErrorString(status),
             status, __FILE__, __LINE__},
            result.log, number_lines(source));
    check_nvrtc(status, "nvrtcCompileProgram", __FILE__, __LINE__, result.log);

    std::size_t size = 0;
    if (cubin) {
        KN_NVRTC_CHECK(nvrtcGetCUBINSize(program.get(), &size));
        result.image.resize(size);
        KN_NVRTC_CHECK(nvrtcGetCUBIN(program.get(), reinterpret_cast<char*>(result.image.data())));
    } else {
        KN_NVRTC_CHECK(nvrtcGetPTXSize(program.get(), &size));
        result.image.resize(size);
        KN_NVRTC_CHECK(nvrtcGetPTX(program.get(), reinterpret_cast<char*>(result.image.data())));
    }
    for (const std::string& expression : options.name_expressions) {
        const char* lowered = nullptr;
        KN_NVRTC_CHECK(nvrtcGetLoweredName(program.get(), expression.c_str(), &lowered));
        result.lowered_names[expression] = lowered;
    }
    return result;
}

std::vector<int> compile_targets() {
    int count = 0;
    KN_NVRTC_CHECK(nvrtcGetNumSupportedArchs(&count));
    std::vector<int> targets(static_cast<std::size_t>(count));
    KN_NVRTC_CHECK(nvrtcGetSupportedArchs(targets.data()));
    return targets;
}

}  // namespace kn::cuda
