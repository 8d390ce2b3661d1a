// Files that appear whole or not at all.
//
//     common::write_file("picture.png", bytes);
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace common {

/// Writes beside the target and renames; what is no regular file (a pipe, a device) is written
/// directly. Throws std::runtime_error "PATH: cannot be written: REASON" and leaves nothing behind.
void write_file(const std::filesystem::path& path, std::span<const std::uint8_t> bytes);

/// Why `path` could not be written now, or an empty string: its folder (or the nearest that exists
/// above it) must be writable, and it must not be a folder itself.
std::string why_not_writable(const std::filesystem::path& path);

}  // namespace common
