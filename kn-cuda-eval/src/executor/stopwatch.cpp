#include "executor/stopwatch.h"

#include <algorithm>
#include <vector>

namespace kn::cuda {

ColdTimer::ColdTimer(StreamRef stream)
    : stream_(stream), start_(stream.device()), stop_(stream.device()) {
    try {
        flush_ =
            std::make_unique<DeviceMemory>(stream.device(), stream.device().properties().l2_bytes);
    } catch (const OutOfMemory&) {
        // Times in a warm cache are better than none.
    }
}

double ColdTimer::us(const std::function<void()>& work, int repeats) {
    constexpr double enough_us = 20000;
    work();
    stream_.synchronize();
    std::vector<double> times;
    double sum = 0;
    while (times.size() < static_cast<std::size_t>(repeats) && (sum < enough_us || times.empty())) {
        // The host is ahead of the device while this fill runs, so that the events enclose nothing
        // but the work.
        if (flush_) fill_bytes_async(stream_, flush_->data(), 0, flush_->bytes());
        start_.record(stream_);
        work();
        stop_.record(stream_);
        stop_.synchronize();
        times.push_back(1000 * static_cast<double>(elapsed_ms(start_, stop_)));
        sum += times.back();
    }
    const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
    std::nth_element(times.begin(), middle, times.end());
    return *middle;
}

}  // namespace kn::cuda
