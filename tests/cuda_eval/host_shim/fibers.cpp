#include "fibers.h"

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <utility>
#include <vector>

namespace kn::cuda {

namespace {

constexpr std::size_t kStack = std::size_t{256} << 10;

enum class State { Ready, AtWarp, AtBlock, Waits, Done };

struct Fiber {
    std::unique_ptr<char[]> stack{new char[kStack]};
    ucontext_t context;
    jmp_buf where;
    bool started = false;
    State state = State::Ready;
    const std::function<bool()>* done = nullptr;  // what it waits for
};

std::vector<Fiber> fibers;  // kept from block to block
jmp_buf scheduler;
int current_fiber = -1;
const std::function<void(int)>* current_body = nullptr;
std::string failure;

void start() {
    (*current_body)(current_fiber);
    fibers[static_cast<std::size_t>(current_fiber)].state = State::Done;
    _longjmp(scheduler, 1);
}

// Returns when the fiber waits or is done. Contexts are made once; after that, jumps cost no system
// call.
void go_on(int i) {
    Fiber& fiber = fibers[static_cast<std::size_t>(i)];
    current_fiber = i;
    if (_setjmp(scheduler) != 0) return;
    if (fiber.started) _longjmp(fiber.where, 1);
    fiber.started = true;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, start, 0);
    setcontext(&fiber.context);
}

// Of the fibers of a block, those in this state go on if all that have not returned are in it.
bool release_together(int first, int end, State state) {
    for (int i = first; i < end; ++i) {
        const State now = fibers[static_cast<std::size_t>(i)].state;
        if (now != state && now != State::Done) return false;
    }
    bool any = false;
    for (int i = first; i < end; ++i)
        if (State& now = fibers[static_cast<std::size_t>(i)].state; now == state) {
            now = State::Ready;
            any = true;
        }
    return any;
}

// Lets those go on whose group is complete, or what they wait for is there; false if nobody can.
bool release(int blocks, int threads) {
    bool any = false;
    for (int block = 0; block < blocks; ++block) {
        const int first = block * threads, end = first + threads;
        for (int i = first; i < end; ++i)
            if (Fiber& fiber = fibers[static_cast<std::size_t>(i)];
                fiber.state == State::Waits && (*fiber.done)()) {
                fiber.state = State::Ready;
                any = true;
            }
        for (int warp = first; warp < end; warp += 32)
            any = release_together(warp, std::min(warp + 32, end), State::AtWarp) || any;
        any = release_together(first, end, State::AtBlock) || any;
    }
    return any;
}

void give_way(State state) {
    Fiber& fiber = fibers[static_cast<std::size_t>(current_fiber)];
    fiber.state = state;
    if (_setjmp(fiber.where) == 0) _longjmp(scheduler, 1);
}

}  // namespace

int Fibers::current() { return current_fiber; }

void Fibers::fail(const std::string& message) {
    if (current_fiber < 0) throw std::runtime_error(message);
    failure = message;
    _longjmp(scheduler, 1);
}

void Fibers::barrier(int whole_block) {
    give_way(whole_block != 0 ? State::AtBlock : State::AtWarp);
}

void Fibers::wait(const std::function<bool()>& done) {
    if (done()) return;
    fibers[static_cast<std::size_t>(current_fiber)].done = &done;
    give_way(State::Waits);
}

void Fibers::run(int blocks, int threads, const std::function<void(int)>& enter,
                 const std::function<void(int)>& body, const std::function<bool()>& idle) {
    const int count = blocks * threads;
    if (fibers.size() < static_cast<std::size_t>(count))
        fibers.resize(static_cast<std::size_t>(count));
    current_body = &body;
    for (int i = 0; i < count; ++i) {
        fibers[static_cast<std::size_t>(i)].started = false;
        fibers[static_cast<std::size_t>(i)].state = State::Ready;
    }
    // Between barriers any order is right; so that a missing one shows, it changes.
    static bool backwards = false;
    do {
        for (int n = 0; n < count; ++n) {
            const int i = backwards ? count - 1 - n : n;
            if (fibers[static_cast<std::size_t>(i)].state != State::Ready) continue;
            enter(i);
            go_on(i);
            current_fiber = -1;
            if (!failure.empty()) throw std::runtime_error(std::exchange(failure, {}));
        }
        backwards = !backwards;
    } while (release(blocks, threads) || (idle() && (release(blocks, threads), true)));
    for (int i = 0; i < count; ++i)
        if (fibers[static_cast<std::size_t>(i)].state != State::Done)
            throw std::runtime_error("threads of a block wait for what never comes");
}

}  // namespace kn::cuda
