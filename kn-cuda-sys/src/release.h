// How destructors give things back. Internal.
#pragma once

#include "capture_gate.h"

namespace kn::cuda::detail {

bool enter_for_release(Device device, int* previous) noexcept;
void leave_for_release(int previous) noexcept;

/// Makes `device` current and runs `release`, unless the device's context is dead; never throws.
template <class F>
void release_on(Device device, F&& release) noexcept {
    SharedGate gate;
    int previous = -1;
    if (!enter_for_release(device, &previous)) return;
    release();
    leave_for_release(previous);
}

}  // namespace kn::cuda::detail
