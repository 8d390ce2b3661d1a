// Work on a weight's elements, on several threads where that pays.
#pragma once

#include <cstddef>
#include <functional>

namespace kn::detail {

/// Calls body(begin, end), which must not throw, for ranges that make up [0, count); blocks.
/// Several threads only where there are millions of elements: starting them takes a while.
void split_over_threads(std::size_t count,
                        const std::function<void(std::size_t, std::size_t)>& body);

/// Calls body(0) ... body(count - 1), which must not throw, begun in this order, on as many threads
/// as there are processors, 16 at most; blocks.
void on_threads(std::size_t count, const std::function<void(std::size_t)>& body);

}  // namespace kn::detail
