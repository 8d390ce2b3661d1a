#include "onnx/large_data.h"

#include <atomic>
#include <cstdint>

#include <kn/graph/error.h>

#include "ir/split_over_threads.h"

namespace kn::onnx {

namespace {

// Fields share allocations of this size, which tensors get large pages for: first use of a page
// takes as long as reading into it. One that is in use keeps its neighbours' memory, so that the
// allocations are not larger than that asks for.
constexpr std::size_t allocation_bytes = std::size_t{64} << 20;
constexpr std::size_t alignment = 64;
constexpr std::size_t page = std::size_t{2} << 20;

std::size_t aligned(std::size_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

/// Bytes of the source, and where they go.
struct Part {
    std::size_t offset;
    std::span<std::byte> to;
};

class Reader {
  public:
    explicit Reader(const Source& source) : source_(source) {}

    void add(std::size_t offset, std::span<std::byte> to) {
        while (!to.empty()) {
            const auto address = reinterpret_cast<std::uintptr_t>(to.data());
            const std::size_t step = std::min(to.size(), page - address % page);
            // Two threads that use a page first would both clear one.
            if (const std::uintptr_t on = address / page; on != last_page_) {
                firsts_.push_back(parts_.size());
                last_page_ = on;
            }
            parts_.push_back({offset, to.first(step)});
            offset += step;
            to = to.subspan(step);
        }
    }

    /// False if the source has less.
    bool run() {
        std::atomic<bool> good = true;
        firsts_.push_back(parts_.size());
        detail::on_threads(firsts_.size() - 1, [&](std::size_t i) {
            for (std::size_t k = firsts_[i]; k < firsts_[i + 1]; k++)
                if (source_.read(parts_[k].offset, parts_[k].to) != parts_[k].to.size())
                    good = false;
        });
        return good;
    }

  private:
    const Source& source_;
    std::vector<Part> parts_;
    std::vector<std::size_t> firsts_;  // of each page
    std::uintptr_t last_page_ = 0;
};

}  // namespace

LargeData read_large_data(const Source& source, const std::vector<LargeField>& fields,
                          const pb::GraphProto& graph) {
    LargeData result;
    Reader reader(source);
    for (std::size_t first = 0; first < fields.size();) {
        std::size_t last = first, bytes = 0;
        while (last < fields.size() && bytes < allocation_bytes)
            bytes += aligned(fields[last++].bytes.size);
        Tensor memory(DType::U8, {static_cast<std::int64_t>(bytes)});
        auto to = memory.mutable_bytes();
        for (; first < last; first++) {
            const auto [initializer, from] = fields[first];
            KN_CHECK(initializer < graph.initializer_size());
            const auto own = to.first(from.size);
            to = to.subspan(aligned(from.size));
            reader.add(from.offset, own);
            result[&graph.initializer(initializer)] = {own, memory.storage()};
        }
    }
    if (!reader.run())
        throw OnnxError(OnnxError::Kind::BrokenFile, "the file became shorter while it was read");
    return result;
}

}  // namespace kn::onnx
