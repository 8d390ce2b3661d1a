#include "stable_diffusion/find_model.h"

#include <stdexcept>
#include <vector>

namespace sd {

namespace fs = std::filesystem;

fs::path find_tiny_model() {
    std::error_code error;
    const fs::path folder = fs::read_symlink("/proc/self/exe", error).parent_path();
    std::vector<fs::path> places = {folder / "../share/kn/stable_diffusion/tiny", folder / "tiny"};
    for (fs::path above = folder; above.has_relative_path(); above = above.parent_path())
        places.push_back(above / "examples/stable_diffusion/tiny/model");
    places.emplace_back(KN_TINY_SD);
    for (const fs::path& place : places)
        if (fs::exists(place / "unet" / "model.onnx", error)) return place.lexically_normal();
    throw std::runtime_error(
        "the tiny model is neither installed beside the program nor in its source tree: give a "
        "model by --model");
}

}  // namespace sd
