// Compiles CUDA C++ at run time. Needs neither GPU nor driver.
//
//     kn::cuda::CompileOptions options{.arch = "sm_90", .name_expressions = {"scale<float>"}};
//     kn::cuda::CompiledProgram program = kn::cuda::compile(source, options);
//     kn::cuda::Library library(program.image);
//     kn::cuda::Kernel kernel = library.kernel(program.lowered_names.at("scale<float>"));
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "kn/cuda_sys/error.h"

namespace kn::cuda {

/// As in Versions; loads NVRTC alone.
KN_CUDA_API int nvrtc_version() noexcept;

/// A header that the source may include by `name`, without a file.
struct InMemoryHeader {
    std::string name;
    std::string text;
};

struct CompileOptions {
    std::string name = "kernel.cu";       ///< of the source, in messages
    std::string arch = "sm_90";           ///< "sm_90" gives CUBIN, "compute_90" PTX
    std::vector<std::string> flags = {};  ///< further compiler flags, such as "--use_fast_math"
    std::vector<std::string> include_dirs = {};  ///< searched after the headers in memory
    std::vector<InMemoryHeader> headers = {};
    std::vector<std::string> name_expressions =
        {};  ///< such as "add<float, 4>"; each is instantiated
};

struct CompiledProgram {
    std::vector<std::byte> image = {};  ///< CUBIN, or PTX with its final NUL
    std::map<std::string, std::string> lowered_names =
        {};                ///< name expression -> symbol in the image
    std::string log = {};  ///< warnings; empty where there are none
};

/// The source did not compile. what() holds the log and the source with line numbers.
class KN_CUDA_API CompileError : public Error {
  public:
    CompileError(ErrorInfo info, std::string log, std::string numbered_source);
    const std::string& log() const noexcept { return log_; }
    const std::string& numbered_source() const noexcept { return numbered_source_; }

  private:
    std::string log_;
    std::string numbered_source_;
};

/// Compiles for about 20 ms plus 10 to 100 a kernel (and some 90 more for the first call in a
/// process); blocks. Several threads compile at the same time, but NVRTC reads one program after the
/// other, some 20 ms each. Throws CompileError, or Error for options it does not know.
KN_CUDA_API CompiledProgram compile(const std::string& source, const CompileOptions& options);

/// Targets that the linked NVRTC knows, ascending: 75 stands for "sm_75" and "compute_75".
KN_CUDA_API std::vector<int> compile_targets();

}  // namespace kn::cuda
