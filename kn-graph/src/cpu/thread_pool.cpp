#include "cpu/thread_pool.h"

#include <algorithm>
#include <system_error>

#ifdef __linux__
#include <sched.h>
#endif

namespace kn::cpu {

namespace {

thread_local bool inside_job = false;

// Long enough to bridge the gap between two operations, short enough not to burn a processor
// between runs.
constexpr int kSpins = 4000;

constexpr int kMostThreads = 512;

int usable_processors() {
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

}  // namespace

struct ThreadPool::Job {
    const std::function<void(std::int64_t, std::int64_t)>& body;
    std::int64_t count;
    std::int64_t grain;
    std::atomic<std::int64_t> next{0};
    std::atomic<int> helpers{0};  // workers that are inside; joined and left under the pool's mutex
    std::atomic<bool> failed{false};
    std::exception_ptr error{};
};

ThreadPool::ThreadPool(int threads)
    : threads_(std::min(threads > 0 ? threads : usable_processors(), kMostThreads)) {}

ThreadPool::~ThreadPool() {
    {
        std::lock_guard lock(mutex_);
        stop_ = true;
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
}

void ThreadPool::start() {
    try {
        while (static_cast<int>(workers_.size()) < threads_ - 1)
            workers_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {
        threads_ = static_cast<int>(workers_.size()) + 1;  // as many as the system gives
    }
}

void ThreadPool::parallel_for(std::int64_t count, std::int64_t grain,
                              const std::function<void(std::int64_t, std::int64_t)>& body) {
    if (count <= 0) return;
    grain = std::max<std::int64_t>(grain, 1);
    if (threads_ == 1 || count <= grain || inside_job) return body(0, count);
    std::unique_lock busy(busy_, std::try_to_lock);
    if (!busy) return body(0, count);
    start();

    Job job{.body = body, .count = count, .grain = grain};
    {
        std::lock_guard lock(mutex_);
        job_ = &job;
        generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    drain(job);
    {
        std::unique_lock lock(mutex_);
        job_ = nullptr;
    }
    for (int i = 0; i < kSpins && job.helpers.load(std::memory_order_acquire) > 0; ++i) pause();
    {
        // Also when the count is 0 already: the last helper may still hold the mutex.
        std::unique_lock lock(mutex_);
        done_.wait(lock, [&] { return job.helpers == 0; });
    }
    if (job.error) std::rethrow_exception(job.error);
}

void ThreadPool::drain(Job& job) {
    inside_job = true;
    while (!job.failed.load(std::memory_order_relaxed)) {
        const std::int64_t begin = job.next.fetch_add(job.grain, std::memory_order_relaxed);
        if (begin >= job.count) break;
        try {
            job.body(begin, std::min(begin + job.grain, job.count));
        } catch (...) {
            if (!job.failed.exchange(true)) job.error = std::current_exception();
        }
    }
    inside_job = false;
}

void ThreadPool::work() {
    std::uint64_t seen = 0;
    while (true) {
        for (int i = 0; i < kSpins; ++i) {
            if (generation_.load(std::memory_order_acquire) != seen || stop_) break;
            pause();
        }
        Job* job = nullptr;
        {
            std::unique_lock lock(mutex_);
            wake_.wait(lock, [&] { return stop_ || generation_ != seen; });
            if (stop_) return;
            seen = generation_;
            job = job_;
            if (job) ++job->helpers;
        }
        if (!job) continue;
        drain(*job);
        std::lock_guard lock(mutex_);
        if (--job->helpers == 0) done_.notify_one();
    }
}

}  // namespace kn::cpu
