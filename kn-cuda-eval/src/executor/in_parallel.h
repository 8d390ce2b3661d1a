// Independent pieces of work on all processors.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace kn::cuda {

/// Threads that stay for several pieces of work: starting them takes as long as copying megabytes.
///
///     ThreadTeam team(processors());
///     while (...) team.run(pieces.size(), [&](std::size_t i) { ... });
class ThreadTeam {
  public:
    /// `most` with the caller's thread; fewer where no more are to be had.
    explicit ThreadTeam(std::size_t most);
    ~ThreadTeam();
    ThreadTeam(const ThreadTeam&) = delete;
    ThreadTeam& operator=(const ThreadTeam&) = delete;

    /// Runs body(0) ... body(count - 1), begun in this order; blocks. All of them run, then the
    /// error of the lowest index is thrown, if there is one. By one thread at a time.
    void run(std::size_t count, const std::function<void(std::size_t)>& body);

  private:
    struct Shared;
    std::unique_ptr<Shared> shared_;
};

/// The same with a team of its own, as large as processors() says.
void in_parallel(std::size_t count, const std::function<void(std::size_t)>& body);

/// At least 1.
std::size_t processors();

}  // namespace kn::cuda
