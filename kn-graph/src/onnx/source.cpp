#include "onnx/source.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <string>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <kn/graph/error.h>

namespace kn::onnx {

namespace {

constexpr std::size_t most = std::numeric_limits<int>::max();

[[noreturn]] void refuse(const std::string& reason) {
    throw OnnxError(OnnxError::Kind::BrokenFile, reason);
}

/// Why an open file is none to read a model from; empty if it is one.
std::string why_not(int fd, std::size_t& size) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) return std::strerror(errno);
    if (!S_ISREG(status.st_mode)) return "it is no regular file";
    size = static_cast<std::size_t>(status.st_size);
    if (size > most) return "it is larger than 2 GiB, the limit of the format";
    return size == 0 ? "it is empty" : "";
}

}  // namespace

Source::Source(const std::filesystem::path& file)
    : fd_(::open(file.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {
    const std::string reason = fd_ < 0 ? std::strerror(errno) : why_not(fd_, size_);
    if (reason.empty()) return;
    if (fd_ >= 0) ::close(fd_);
    refuse("the file cannot be read: " + reason);
}

Source::Source(std::span<const std::byte> memory) : memory_(memory.data()), size_(memory.size()) {
    if (size_ > most) refuse("the model is larger than 2 GiB, the limit of the format");
    if (size_ == 0) refuse("the model is empty");
}

Source::~Source() {
    if (fd_ >= 0) ::close(fd_);
}

std::size_t Source::read(std::size_t offset, std::span<std::byte> to) const {
    const std::size_t wanted = std::min(to.size(), size_ - std::min(offset, size_));
    if (wanted == 0) return 0;
    if (memory_ != nullptr) {
        std::memcpy(to.data(), memory_ + offset, wanted);
        return wanted;
    }
    std::size_t done = 0;
    while (done < wanted) {
        const ssize_t count =
            ::pread(fd_, to.data() + done, wanted - done, static_cast<off_t>(offset + done));
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) break;
        done += static_cast<std::size_t>(count);
    }
    return done;
}

}  // namespace kn::onnx
