// Where the tiny model lies, wherever the program was started from.
#pragma once

#include <filesystem>

namespace sd {

/// Beside the program as it is installed, else in the source tree that it was built from. Throws
/// std::runtime_error if it is in neither.
std::filesystem::path find_tiny_model();

}  // namespace sd
