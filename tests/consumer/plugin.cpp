#include <kn/graph/version.h>

extern "C" __attribute__((visibility("default"))) const char* plugin_version() {
    return kn::version();
}
