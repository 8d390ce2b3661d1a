#include <algorithm>
#include <cstring>

#include "onnx/outline.h"

namespace kn::onnx {

std::size_t OutlineStream::left() const {
    const auto& piece = pieces_[piece_];
    const auto* text = std::get_if<std::string>(&piece);
    return (text ? text->size() : std::get<Extent>(piece).size) - at_;
}

std::size_t OutlineStream::copy(std::byte* to, std::size_t count) const {
    const auto& piece = pieces_[piece_];
    const auto* text = std::get_if<std::string>(&piece);
    if (!text) return source_.read(std::get<Extent>(piece).offset + at_, {to, count});
    std::memcpy(to, text->data() + at_, count);
    return count;
}

// To nowhere, it skips.
int OutlineStream::advance(std::byte* to, int count) {
    int done = 0;
    while (done < count && piece_ < pieces_.size()) {
        const std::size_t step = std::min(left(), static_cast<std::size_t>(count - done));
        const std::size_t copied = to != nullptr ? copy(to + done, step) : step;
        done += static_cast<int>(copied);
        at_ += copied;
        if (copied < step) break;  // the source became shorter
        if (left() > 0) continue;
        piece_++;
        at_ = 0;
    }
    return done;
}

int OutlineStream::Read(void* buffer, int size) {
    return advance(static_cast<std::byte*>(buffer), size);
}

int OutlineStream::Skip(int count) { return advance(nullptr, count); }

}  // namespace kn::onnx
