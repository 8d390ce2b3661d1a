// Independent pieces of work on all processors.
#pragma once

#include <cstddef>
#include <functional>

namespace kn::cuda {

/// Runs body(0) ... body(count - 1), begun in this order, on as many threads as there are
/// processors; blocks. All of them run, then the error of the lowest index is thrown, if there is
/// one.
void in_parallel(std::size_t count, const std::function<void(std::size_t)>& body);

/// The threads that it uses at most.
std::size_t processors();

}  // namespace kn::cuda
