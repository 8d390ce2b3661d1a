// The CPU as a Backend.
#pragma once

#include <kn/graph/backend.h>

namespace kn {

std::shared_ptr<Backend> make_cpu_backend();

}  // namespace kn
