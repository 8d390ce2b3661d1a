// For LD_AUDIT: libraries that are not there, and a cuDNN of another version.
//     KN_FAKE_MISSING=libcudnn,libnvrtc    no library whose file's name begins so is found
//     KN_FAKE_HIDDEN=libcudnn              such a library is found by its whole path only
//     KN_FAKE_CUDNN_VERSION=90000          what cudnnGetVersion says
#include <link.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {

std::size_t version() {
    const char* text = std::getenv("KN_FAKE_CUDNN_VERSION");
    return text ? std::strtoul(text, nullptr, 10) : 0;
}

bool is_listed(const char* variable, const char* file) {
    const char* list = std::getenv(variable);
    while (list && *list) {
        const std::size_t length = std::strcspn(list, ",");
        if (std::strncmp(file, list, length) == 0) return true;
        list += length + (list[length] == ',');
    }
    return false;
}

}  // namespace

extern "C" {

unsigned la_version(unsigned offered) { return offered; }

char* la_objsearch(const char* name, std::uintptr_t*, unsigned) {
    const char* slash = std::strrchr(name, '/');
    const char* file = slash ? slash + 1 : name;
    const bool found =
        !is_listed("KN_FAKE_MISSING", file) && (slash || !is_listed("KN_FAKE_HIDDEN", file));
    static char nowhere[] = "/nowhere";
    return found ? const_cast<char*>(name) : nowhere;
}

unsigned la_objopen(link_map*, Lmid_t, std::uintptr_t*) {
    return version() ? LA_FLG_BINDTO | LA_FLG_BINDFROM : 0;
}

std::uintptr_t la_symbind64(Elf64_Sym* symbol, unsigned, std::uintptr_t*, std::uintptr_t*,
                            unsigned*, const char* name) {
    if (version() && std::strcmp(name, "cudnnGetVersion") == 0)
        return reinterpret_cast<std::uintptr_t>(&version);
    return symbol->st_value;
}
}
