#include "onnx/external.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/core.h>

#include "onnx/problems.h"

namespace kn::onnx {

namespace fs = std::filesystem;

namespace {

struct File {
    int fd = -1;
    explicit File(const fs::path& path)
        : fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC)) {}
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    ~File() {
        if (fd >= 0) ::close(fd);
    }
};

bool is_inside(const fs::path& path, const fs::path& root) {
    auto in_path = path.begin();
    for (auto part = root.begin(); part != root.end(); ++part) {
        if (part->empty()) continue;  // a trailing slash
        if (in_path == path.end() || *in_path != *part) return false;
        ++in_path;
    }
    return in_path != path.end();
}

}  // namespace

class ExternalFiles::Mapping {
  public:
    Mapping(int fd, std::size_t size) : size_(size) {
        if (size == 0) return;
        data_ = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data_ == MAP_FAILED)
            fail_unsupported(fmt::format("it cannot be mapped: {}", std::strerror(errno)));
    }
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;
    ~Mapping() {
        if (size_ > 0) ::munmap(data_, size_);
    }
    std::span<const std::byte> bytes() const {
        return {static_cast<const std::byte*>(data_), size_};
    }

  private:
    void* data_ = nullptr;
    std::size_t size_;
};

ExternalFiles::ExternalFiles(const fs::path& folder, const std::vector<fs::path>& roots) {
    std::error_code error;
    folder_ = fs::canonical(folder.empty() ? "." : folder, error);
    if (error)
        fail_broken(fmt::format("the folder of the model cannot be read: {}", error.message()));
    roots_.push_back(folder_);
    for (const fs::path& root : roots) {
        const fs::path canonical = fs::canonical(root, error);
        if (error)
            throw GraphError(fmt::format("LoadOptions::external_roots: '{}': {}", root.string(),
                                         error.message()));
        roots_.push_back(canonical);
    }
}

std::shared_ptr<const ExternalFiles::Mapping> ExternalFiles::open(
    const std::string& location) const {
    const fs::path relative = location;
    if (location.empty() || location.find('\0') != std::string::npos)
        fail_broken("it has no file name");
    if (relative.is_absolute()) fail_broken("the path is absolute");
    for (const fs::path& part : relative)
        if (part == "..") fail_broken("the path has '..'");

    std::error_code error;
    const fs::path path = fs::canonical(folder_ / relative, error);
    if (error) fail_broken(error.message());
    bool inside = false;
    for (const fs::path& root : roots_) inside = inside || is_inside(path, root);
    if (!inside)
        fail_broken(
            "a symbolic link leads out of the model's folder (LoadOptions::external_roots can "
            "allow its target)");
    // Looked at before it is opened, since opening a device can have effects; and again after,
    // since it may have been exchanged.
    if (!fs::is_regular_file(path, error)) fail_broken("it is no regular file");
    const File file(path);
    if (file.fd < 0) fail_broken(std::strerror(errno));
    struct stat status {};
    if (::fstat(file.fd, &status) != 0) fail_broken(std::strerror(errno));
    if (!S_ISREG(status.st_mode)) fail_broken("it is no regular file");
    const fs::path opened = fs::read_symlink(fmt::format("/proc/self/fd/{}", file.fd), error);
    if (!error && opened != path) fail_broken("it was exchanged while it was opened");
    return std::make_shared<const Mapping>(file.fd, static_cast<std::size_t>(status.st_size));
}

ExternalBytes ExternalFiles::read(const std::string& location, std::uint64_t offset,
                                  std::uint64_t length) {
    try {
        std::shared_ptr<const Mapping>& mapping = open_[location];
        if (!mapping) mapping = open(location);
        const std::uint64_t size = mapping->bytes().size();
        if (offset > size || length > size - offset)
            fail_broken(
                fmt::format("{} bytes at {} reach beyond its end at {}", length, offset, size));
        return {mapping->bytes().subspan(offset, length), mapping};
    } catch (Failure& failure) {
        failure.reason = fmt::format("external data '{}': {}", location, failure.reason);
        throw;
    }
}

}  // namespace kn::onnx
