// The threads of some blocks as fibers of the calling thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

namespace kn::cuda {

class Fibers {
  public:
    /// Calls `body(i)` for each i < blocks * threads, each on a stack of its own, until all have
    /// returned; those of a block are neighbours. `enter(i)` is called whenever fiber i goes on,
    /// and `idle()` where nobody can: whether it changed something. Throws where it did not.
    static void run(int blocks, int threads, const std::function<void(int)>& enter,
                    const std::function<void(int)>& body, const std::function<bool()>& idle);
    /// From inside a body: gives way until all bodies of the warp (32 neighbours), or of the block,
    /// that have not returned are here.
    static void barrier(int whole_block);
    /// From inside a body: gives way until `done()`.
    static void wait(const std::function<bool()>& done);
    /// The fiber that runs.
    static int current();
    /// Ends `run` with an exception; what the bodies hold is not destroyed.
    [[noreturn]] static void fail(const std::string& message);
};

}  // namespace kn::cuda
