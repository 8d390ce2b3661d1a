#include "common/files.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <stdexcept>

namespace common {

namespace fs = std::filesystem;

namespace {

// 0 or errno.
int write_bytes(const fs::path& path, std::span<const std::uint8_t> bytes) {
    std::FILE* file = std::fopen(path.c_str(), "wb");
    if (!file) return errno;
    int error = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size() ? 0 : errno;
    if (std::fclose(file) != 0 && error == 0) error = errno;
    return error;
}

}  // namespace

void write_file(const fs::path& path, std::span<const std::uint8_t> bytes) {
    std::error_code ignored;
    const auto fail = [&](int error) {
        throw std::runtime_error(path.string() + ": cannot be written: " + std::strerror(error));
    };
    if (fs::exists(path, ignored) && !fs::is_regular_file(path, ignored)) {
        if (const int error = write_bytes(path, bytes)) fail(error);
        return;
    }
    const fs::path target =
        fs::is_symlink(path, ignored) ? fs::weakly_canonical(path, ignored) : path;
    fs::path partial = target;
    partial += "." + std::to_string(::getpid()) + ".part";
    int error = write_bytes(partial, bytes);
    if (error == 0 && std::rename(partial.c_str(), target.c_str()) != 0) error = errno;
    if (error == 0) return;
    fs::remove(partial, ignored);
    fail(error);
}

std::string why_not_writable(const fs::path& path) {
    std::error_code ignored;
    if (path.empty()) return "the name is empty";
    if (fs::is_directory(path, ignored)) return "is a folder";
    if (fs::exists(path, ignored) && ::access(path.c_str(), W_OK) != 0) return std::strerror(errno);
    fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
    if (!fs::exists(folder, ignored)) return "the folder " + folder.string() + " does not exist";
    if (!fs::is_directory(folder, ignored)) return folder.string() + " is not a folder";
    return ::access(folder.c_str(), W_OK) == 0 ? std::string() : std::strerror(errno);
}

}  // namespace common
