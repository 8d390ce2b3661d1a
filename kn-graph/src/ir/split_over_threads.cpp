#include "ir/split_over_threads.h"

#include <algorithm>
#include <system_error>
#include <thread>
#include <vector>

namespace kn::detail {

void split_over_threads(std::size_t count,
                        const std::function<void(std::size_t, std::size_t)>& body) {
    constexpr std::size_t least = std::size_t{1} << 19, most_threads = 16;
    // Asking for the number of processors opens a file, which small tensors would wait for.
    if (count < 2 * least) return body(0, count);
    const std::size_t threads =
        std::min(count / least,
                 std::clamp<std::size_t>(std::thread::hardware_concurrency(), 1, most_threads));
    const std::size_t share = (count + threads - 1) / threads;
    std::vector<std::jthread> helpers;
    std::size_t begin = 0;
    for (std::size_t i = 1; i < threads; i++, begin += share) {
        try {
            helpers.emplace_back([&body, begin, share] { body(begin, begin + share); });
        } catch (const std::system_error&) {
            break;  // no more threads to be had: the rest is this one's
        }
    }
    body(begin, count);
}

}  // namespace kn::detail
