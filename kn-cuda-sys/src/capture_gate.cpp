#include "capture_gate.h"

#include <shared_mutex>

namespace kn::cuda::detail {

namespace {

// Never destroyed: objects of static lifetime may still be released after it.
std::shared_mutex& gate() {
    static auto* mutex = new std::shared_mutex;
    return *mutex;
}

thread_local int inside_calls = 0;
thread_local int inside_captures = 0;

}  // namespace

SharedGate::SharedGate() : locked_(inside_calls == 0 && inside_captures == 0) {
    if (locked_) gate().lock_shared();
    ++inside_calls;
}

SharedGate::~SharedGate() {
    --inside_calls;
    if (locked_) gate().unlock_shared();
}

void enter_capture_gate() {
    if (inside_captures == 0) gate().lock();
    ++inside_captures;
}

void leave_capture_gate() noexcept {
    --inside_captures;
    if (inside_captures == 0) gate().unlock();
}

bool inside_capture() noexcept { return inside_captures > 0; }

}  // namespace kn::cuda::detail
