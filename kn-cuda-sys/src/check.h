// Status checks of the libraries beside cudart, and of callers' arguments. Internal.
#pragma once

#include <fmt/core.h>

#include "kn/cuda_sys/error.h"

namespace kn::cuda::detail {

/// From now on every use of the device throws ContextLost.
void mark_lost(int device) noexcept;

/// Throws OutOfMemory or Error for a status of a library whose texts are `text`.
[[noreturn]] void fail(ErrorSource library, const char* call, int status, const char* text,
                       bool out_of_memory, const char* file, int line,
                       const std::string& detail = "");

}  // namespace kn::cuda::detail

/// Throws the Error of a caller's mistake unless `condition` holds: KN_CUDA_REQUIRE(ok, "f", "why
/// {}", x).
#define KN_CUDA_REQUIRE(condition, function, ...)                                               \
    do {                                                                                        \
        if (!(condition))                                                                       \
            ::kn::cuda::detail::misuse(function, fmt::format(__VA_ARGS__), __FILE__, __LINE__); \
    } while (false)
