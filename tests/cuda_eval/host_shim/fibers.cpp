#include "fibers.h"

#include <setjmp.h>
#include <ucontext.h>

#include <cstdint>
#include <stdexcept>
#include <vector>

namespace kn::cuda {

namespace {

constexpr std::size_t kStack = std::size_t{256} << 10;

enum class State { Ready, AtWarp, AtBlock, Done };

struct Fiber {
    std::unique_ptr<char[]> stack{new char[kStack]};
    ucontext_t context;
    jmp_buf where;
    bool started = false;
    State state = State::Ready;
};

std::vector<Fiber> fibers;  // kept from block to block
jmp_buf scheduler;
int current = -1;
const std::function<void(int)>* current_body = nullptr;

void start() {
    (*current_body)(current);
    fibers[static_cast<std::size_t>(current)].state = State::Done;
    _longjmp(scheduler, 1);
}

// Returns when the fiber waits or is done. Contexts are made once; after that, jumps cost no system
// call.
void go_on(int i) {
    Fiber& fiber = fibers[static_cast<std::size_t>(i)];
    current = i;
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

// Lets those go on whose group is complete; false if nobody can.
bool release(int count) {
    bool any = false, all = true;
    for (int first = 0; first < count; first += 32) {
        bool complete = true;
        for (int i = first; i < first + 32 && i < count; ++i) {
            const State state = fibers[static_cast<std::size_t>(i)].state;
            complete = complete && (state == State::AtWarp || state == State::Done);
            all = all && (state == State::AtBlock || state == State::Done);
        }
        for (int i = first; complete && i < first + 32 && i < count; ++i)
            if (State& state = fibers[static_cast<std::size_t>(i)].state; state == State::AtWarp) {
                state = State::Ready;
                any = true;
            }
    }
    for (int i = 0; all && i < count; ++i)
        if (State& state = fibers[static_cast<std::size_t>(i)].state; state == State::AtBlock) {
            state = State::Ready;
            any = true;
        }
    return any;
}

}  // namespace

void Fibers::barrier(int whole_block) {
    Fiber& fiber = fibers[static_cast<std::size_t>(current)];
    fiber.state = whole_block != 0 ? State::AtBlock : State::AtWarp;
    if (_setjmp(fiber.where) == 0) _longjmp(scheduler, 1);
}

void Fibers::run(int count, const std::function<void(int)>& enter,
                 const std::function<void(int)>& body) {
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
        }
        backwards = !backwards;
    } while (release(count));
    for (int i = 0; i < count; ++i)
        if (fibers[static_cast<std::size_t>(i)].state != State::Done)
            throw std::runtime_error("threads of a block wait at different barriers");
}

}  // namespace kn::cuda
