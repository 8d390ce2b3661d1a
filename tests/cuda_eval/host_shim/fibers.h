// The threads of one block as fibers of the calling thread.
#pragma once

#include <functional>
#include <memory>

namespace kn::cuda {

class Fibers {
  public:
    /// Calls `body(i)` for each i < count, each on a stack of its own, until all have returned.
    /// `enter(i)` is called whenever fiber i goes on.
    static void run(int count, const std::function<void(int)>& enter,
                    const std::function<void(int)>& body);
    /// From inside a body: gives way until all bodies of the warp (32 neighbours), or all, that have
    /// not returned are here.
    static void barrier(int whole_block);
};

}  // namespace kn::cuda
