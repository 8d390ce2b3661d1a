#include "executor/in_parallel.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace kn::cuda {

std::size_t processors() {
    static const std::size_t count = std::max(1u, std::thread::hardware_concurrency());
    return count;
}

// One piece of work at a time, which helpers find when they wake.
struct ThreadTeam::Shared {
    std::mutex mutex;
    std::condition_variable begun, done;
    const std::function<void(std::size_t)>* body = nullptr;
    std::size_t next = 0, count = 0, unfinished = 0;
    std::vector<std::exception_ptr> errors;
    bool over = false;
    std::vector<std::jthread> helpers;

    // Takes pieces as long as there are any; the lock is held but while one runs.
    void work(std::unique_lock<std::mutex>& lock) {
        while (next < count) {
            const std::size_t i = next++;
            lock.unlock();
            std::exception_ptr error;
            try {
                (*body)(i);
            } catch (...) {
                error = std::current_exception();
            }
            lock.lock();
            errors[i] = error;
            if (--unfinished == 0) done.notify_one();
        }
    }

    void help() {
        std::unique_lock lock(mutex);
        while (true) {
            begun.wait(lock, [&] { return over || next < count; });
            if (over) return;
            work(lock);
        }
    }
};

ThreadTeam::ThreadTeam(std::size_t most) : shared_(std::make_unique<Shared>()) {
    for (std::size_t i = 1; i < most; i++) {
        try {
            shared_->helpers.emplace_back([shared = shared_.get()] { shared->help(); });
        } catch (const std::system_error&) {
            break;  // no more threads to be had: fewer will do
        }
    }
}

ThreadTeam::~ThreadTeam() {
    {
        const std::lock_guard lock(shared_->mutex);
        shared_->over = true;
    }
    shared_->begun.notify_all();
}

void ThreadTeam::run(std::size_t count, const std::function<void(std::size_t)>& body) {
    if (count == 0) return;
    Shared& s = *shared_;
    std::unique_lock lock(s.mutex);
    s.body = &body;
    s.next = 0;
    s.count = s.unfinished = count;
    s.errors.assign(count, nullptr);
    if (count > 1) s.begun.notify_all();
    s.work(lock);
    s.done.wait(lock, [&] { return s.unfinished == 0; });
    s.count = 0;
    for (const std::exception_ptr& error : s.errors)
        if (error) std::rethrow_exception(error);
}

void in_parallel(std::size_t count, const std::function<void(std::size_t)>& body) {
    ThreadTeam(std::min(processors(), count)).run(count, body);
}

}  // namespace kn::cuda
