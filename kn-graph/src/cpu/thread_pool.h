// The executor's own threads. No process-wide setting is read or changed.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include <kn/graph/export.h>

namespace kn::cpu {

class KN_API ThreadPool {
  public:
    /// threads >= 1 counts the caller; 0: one for each processor this process may use. Workers
    /// start with the first parallel job.
    explicit ThreadPool(int threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int threads() const { return threads_; }

    /// Calls body(begin, end) for ranges that make up [0, count), each (but the last) a multiple of
    /// `grain` long, and returns when all are done. Ranges run at the same time in no fixed order.
    /// The first exception is thrown again here. A call from inside a body, or while another thread
    /// uses the pool, runs serially in the caller.
    void parallel_for(std::int64_t count, std::int64_t grain,
                      const std::function<void(std::int64_t, std::int64_t)>& body);

  private:
    struct Job;
    void start();
    void work();
    static void drain(Job& job);

    std::atomic<int> threads_;
    std::vector<std::thread> workers_;
    std::mutex busy_;  // held by the thread whose job it is
    std::mutex mutex_;
    std::condition_variable wake_;
    std::condition_variable done_;
    std::atomic<std::uint64_t> generation_{0};
    std::atomic<bool> stop_{false};
    Job* job_ = nullptr;
};

}  // namespace kn::cpu
