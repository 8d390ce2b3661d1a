#include "kn/graph/version.h"

#define KN_STRINGIZE_(x) #x
#define KN_STRINGIZE(x) KN_STRINGIZE_(x)

namespace kn {

const char* version() noexcept {
    return KN_STRINGIZE(KN_VERSION_MAJOR) "." KN_STRINGIZE(KN_VERSION_MINOR) "." KN_STRINGIZE(
        KN_VERSION_PATCH);
}

}  // namespace kn
