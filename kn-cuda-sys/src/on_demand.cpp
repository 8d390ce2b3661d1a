#include "on_demand.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <fmt/core.h>
#include <link.h>

#include <filesystem>
#include <vector>

namespace kn::cuda::detail {

namespace {

namespace fs = std::filesystem;

// Where libraries were when this one was built.
std::vector<fs::path> built_with() {
    std::vector<fs::path> folders;
    for (const char* folder : {KN_CUDA_LIBRARY_DIRS}) folders.emplace_back(folder);
    return folders;
}

// Opens the first of `paths` that opens; null and the loader's words where none does. A file that
// is there and does not open says more than one that is not there.
void* open_first(const std::vector<fs::path>& paths, std::string& why) {
    for (const fs::path& path : paths) {
        std::error_code ignored;
        const bool by_name = !path.has_parent_path();
        if (!by_name && !fs::exists(path, ignored)) continue;
        if (void* handle = dlopen(path.c_str(), RTLD_LAZY | RTLD_LOCAL)) return handle;
        if (const char* error = dlerror(); error && (why.empty() || !by_name)) why = error;
    }
    return nullptr;
}

[[noreturn]] void missing(const LibraryName& library, const char* file, std::string why) {
    if (why.find(file) == std::string::npos) why = fmt::format("{}: {}", file, why);
    throw LibraryMissing({library.source, fmt::format("dlopen(\"{}\")", file),
                          fmt::format("{} is not there: {}", library.title, why), 0, __FILE__,
                          __LINE__});
}

}  // namespace

OpenLibrary::OpenLibrary(const LibraryName& name) : name_(name) {
    std::vector<fs::path> paths{name.file};
    Dl_info cudart{};
    if (dladdr(reinterpret_cast<const void*>(&cudaRuntimeGetVersion), &cudart) &&
        cudart.dli_fname) {
        const fs::path folder = fs::path(cudart.dli_fname).parent_path();
        paths.push_back(folder / name.file);
        paths.push_back(folder / "../.." / name.wheel / "lib" / name.file);
    }
    for (const fs::path& folder : built_with()) paths.push_back(folder / name.file);
    std::string why;
    handle_ = open_first(paths, why);
    if (!handle_) missing(name, name.file, why);
}

void* OpenLibrary::find(const char* function) const noexcept { return dlsym(handle_, function); }

void OpenLibrary::open_part(const char* file) const {
    std::vector<fs::path> paths;
    link_map* map = nullptr;
    if (dlinfo(handle_, RTLD_DI_LINKMAP, &map) == 0)
        paths.push_back(fs::path(map->l_name).parent_path() / file);
    paths.emplace_back(file);
    std::string why;
    if (!open_first(paths, why)) missing(name_, file, why);
}

void missing_function(const LibraryName& library, const char* function) {
    throw LibraryMissing(
        {library.source, function,
         fmt::format("{} has no such function: it is too old, or broken", library.title), 0,
         __FILE__, __LINE__});
}

}  // namespace kn::cuda::detail
