// The version of kn: the macros tell what was compiled against, version() what was linked.
//
//     static_assert(KN_VERSION >= 100);
//     std::puts(kn::version());
#pragma once

#include <kn/graph/export.h>

#define KN_VERSION_MAJOR 0
#define KN_VERSION_MINOR 1
#define KN_VERSION_PATCH 0
#define KN_VERSION (KN_VERSION_MAJOR * 10000 + KN_VERSION_MINOR * 100 + KN_VERSION_PATCH)

namespace kn {

/// Version of the linked library as "major.minor.patch"; a static string.
KN_API const char* version() noexcept;

}  // namespace kn
