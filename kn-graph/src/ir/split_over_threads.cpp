#include "ir/split_over_threads.h"

#include <algorithm>
#include <atomic>
#include <system_error>
#include <thread>
#include <vector>

namespace kn::detail {

namespace {

std::size_t most_threads() {
    return std::clamp<std::size_t>(std::thread::hardware_concurrency(), 1, 16);
}

}  // namespace

void split_over_threads(std::size_t count,
                        const std::function<void(std::size_t, std::size_t)>& body) {
    constexpr std::size_t least = std::size_t{1} << 19;
    // Asking for the number of processors opens a file, which small tensors would wait for.
    if (count < 2 * least) return body(0, count);
    const std::size_t threads = std::min(count / least, most_threads());
    const std::size_t share = (count + threads - 1) / threads;
    on_threads(threads, [&](std::size_t i) { body(i * share, std::min(count, (i + 1) * share)); });
}

void on_threads(std::size_t count, const std::function<void(std::size_t)>& body) {
    std::atomic<std::size_t> next{0};
    const auto work = [&] {
        for (std::size_t i; (i = next++) < count;) body(i);
    };
    const std::size_t threads = count > 1 ? std::min(count, most_threads()) : 1;
    std::vector<std::jthread> helpers;
    for (std::size_t i = 1; i < threads; i++) {
        try {
            helpers.emplace_back(work);
        } catch (const std::system_error&) {
            break;  // no more threads to be had: fewer will do
        }
    }
    work();
}

}  // namespace kn::detail
