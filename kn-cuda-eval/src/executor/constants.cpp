#include "executor/constants.h"

#include <algorithm>
#include <atomic>
#include <compare>
#include <deque>
#include <map>
#include <mutex>

#include <kn/cuda_sys/event.h>

#include "executor/in_parallel.h"
#include "executor/laid_out.h"
#include "planner/constant_origin.h"

namespace kn::cuda {

namespace {

bool is_identity(const Ints& order) {
    for (std::size_t i = 0; i < order.size(); i++)
        if (order[i] != static_cast<std::int64_t>(i)) return false;
    return true;
}

// Elements as the network's file has them. A weight that a precision policy has cast anew for every
// plan is still the same weight: it is known by what it was cast from.
struct Origin {
    const void* elements;
    Ints shape;
    DType from, via;
    auto operator<=>(const Origin&) const = default;
};

// What decides the bytes on the device.
struct Key {
    int device;
    std::vector<Origin> parts;
    std::int64_t axis;
    DType dtype;
    Ints order;
    Tf32Part tf32;
    std::vector<Origin> folded;
    std::int64_t folded_axis;
    bool sums;
    bool winograd;
    auto operator<=>(const Key&) const = default;
};

Origin origin_of(const ConstantData& part) {
    const Tensor& from = origin(part);
    return {from.identity(), from.shape(), from.dtype(), part.tensor.dtype()};
}

Key key_of(int device, const PlanConstant& constant) {
    Key key{device, {}, constant.axis, constant.dtype,   constant.order, constant.tf32,
            {},     0,  false,         constant.winograd};
    for (const auto& part : constant.parts) key.parts.push_back(origin_of(*part));
    if (const auto& folded = constant.folded) {
        for (const auto& factor : {folded->scale, folded->shift})
            key.folded.push_back(factor ? origin_of(*factor)
                                        : Origin{nullptr, {}, folded->dtype, folded->dtype});
        key.folded_axis = folded->axis;
        key.sums = folded->sums;
    }
    if (is_identity(key.order)) key.order.clear();
    return key;
}

// Keeps the host's elements too: their addresses are part of the key.
struct Uploaded : DeviceConstant {
    std::vector<std::shared_ptr<const std::byte>> elements;
};

struct Registry {
    std::mutex mutex;
    std::map<Key, std::weak_ptr<const DeviceConstant>> known;
};

Registry& registry() {
    static Registry instance;
    return instance;
}

// Rows of a constant, and where they go.
struct Piece {
    const LaidOut* constant;
    std::int64_t begin, end;
    std::size_t offset, bytes, work;
};

class Uploader {
  public:
    Uploader(StreamRef stream, std::byte* target) : stream_(stream), target_(target) {}

    void add(const PlanConstant& constant, std::size_t offset) {
        const LaidOut& laid_out = constants_.emplace_back(constant);
        const std::size_t row = laid_out.row_bytes(), work = laid_out.row_work();
        if (row == 0) return;
        const std::int64_t step = rows_a_piece(row, work);
        for (std::int64_t at = 0; at < laid_out.rows(); at += step) {
            const std::int64_t next = std::min(laid_out.rows(), at + step);
            const auto count = static_cast<std::size_t>(next - at);
            pieces_.push_back({&laid_out, at, next, offset + static_cast<std::size_t>(at) * row,
                               count * row, count * work});
            work_ += pieces_.back().work;
        }
    }

    // Blocks. Each thread fills a pinned buffer of its own and sends it: a ring of buffers for all
    // of them took twice as long on a virtual machine, where threads that wait for each other wake
    // late.
    void run() {
        if (pieces_.empty()) return;
        constexpr std::size_t usual = std::size_t{2} << 20, most = std::size_t{128} << 20;
        constexpr std::size_t worth_a_thread = std::size_t{8} << 20;  // it has to pin its buffer
        const Piece& last = pieces_.back();
        std::size_t room = std::min(usual, last.offset + last.bytes - pieces_.front().offset);
        for (const Piece& piece : pieces_) room = std::max(room, piece.bytes);
        const std::vector<std::size_t> ends = batches(room);
        const std::size_t threads = std::min(
            {processors(), work_ / worth_a_thread + 1, std::max<std::size_t>(1, most / room)});
        std::atomic<std::size_t> next = 0;
        in_parallel(threads, [&](std::size_t) {
            const HostMemory buffer(room);
            Event sent(stream_.device(), Event::Timing::Off);
            for (std::size_t i = next++; i < ends.size(); i = next++) {
                send(i == 0 ? 0 : ends[i - 1], ends[i], static_cast<std::byte*>(buffer.data()));
                sent.record(stream_);
                sent.synchronize();
            }
        });
    }

  private:
    // Few enough that no thread is long behind the others, but as many as a source has side by side
    // in its cache lines.
    static std::int64_t rows_a_piece(std::size_t row_bytes, std::size_t row_work) {
        constexpr std::size_t usual = std::size_t{1} << 19, most = std::size_t{1} << 21;
        constexpr std::size_t neighbours = 32;
        const std::size_t wanted = std::max<std::size_t>(1, usual / row_work);
        if (wanted >= neighbours)
            return static_cast<std::int64_t>(wanted / neighbours * neighbours);
        return static_cast<std::int64_t>(neighbours * row_bytes <= most ? neighbours : wanted);
    }

    // Behind the last piece of each stretch of at most `room` bytes, and not much more work.
    std::vector<std::size_t> batches(std::size_t room) const {
        std::vector<std::size_t> ends;
        std::size_t base = pieces_.front().offset, work = pieces_.front().work;
        for (std::size_t i = 1; i < pieces_.size(); i++) {
            const Piece& piece = pieces_[i];
            work += piece.work;
            if (piece.offset + piece.bytes - base <= room && work <= 2 * room) continue;
            ends.push_back(i);
            base = piece.offset;
            work = piece.work;
        }
        ends.push_back(pieces_.size());
        return ends;
    }

    void send(std::size_t first, std::size_t end, std::byte* buffer) const {
        const std::size_t base = pieces_[first].offset;
        for (std::size_t i = first; i < end; i++) {
            const Piece& piece = pieces_[i];
            piece.constant->write(piece.begin, piece.end, buffer + (piece.offset - base));
        }
        const Piece& last = pieces_[end - 1];
        copy_bytes_async(stream_, target_ + base, buffer, last.offset + last.bytes - base);
    }

    StreamRef stream_;
    std::byte* target_;
    std::deque<LaidOut> constants_;
    std::vector<Piece> pieces_;
    std::size_t work_ = 0;
};

}  // namespace

std::size_t device_bytes(const PlanConstant& constant) {
    const std::size_t bytes =
        static_cast<std::size_t>(checked_size(constant.shape())) * size_of(constant.dtype);
    return (bytes + Arena::alignment - 1) / Arena::alignment * Arena::alignment;
}

std::vector<std::shared_ptr<const DeviceConstant>> upload_constants(
    StreamRef stream, const std::vector<PlanConstant>& constants, std::size_t& allocated) {
    Registry& all = registry();
    const std::lock_guard lock(all.mutex);
    std::erase_if(all.known, [](const auto& entry) { return entry.second.expired(); });

    std::vector<std::shared_ptr<const DeviceConstant>> result;
    std::map<Key, std::shared_ptr<Uploaded>> missing;
    std::size_t bytes = 0;
    for (const PlanConstant& constant : constants) {
        const Key key = key_of(stream.device().index(), constant);
        const auto found = all.known.find(key);
        if (auto live = found == all.known.end() ? nullptr : found->second.lock()) {
            result.push_back(std::move(live));
            continue;
        }
        auto& entry = missing[key];
        if (!entry) {
            entry = std::make_shared<Uploaded>();
            bytes += device_bytes(constant);
        }
        result.push_back(entry);
    }
    allocated = bytes;
    if (missing.empty()) return result;

    const auto memory = std::make_shared<const DeviceMemory>(stream.device(), bytes);
    auto* const base = static_cast<std::byte*>(memory->data());
    Uploader uploader(stream, base);
    std::size_t offset = 0;
    for (const PlanConstant& constant : constants) {
        const auto found = missing.find(key_of(stream.device().index(), constant));
        if (found == missing.end() || found->second->memory) continue;
        Uploaded& entry = *found->second;
        entry.memory = memory;
        entry.address = base + offset;
        for (const auto& part : constant.parts) entry.elements.push_back(origin(*part).storage());
        if (constant.folded)
            for (const auto& factor : {constant.folded->scale, constant.folded->shift})
                if (factor) entry.elements.push_back(origin(*factor).storage());
        uploader.add(constant, offset);
        offset += device_bytes(constant);
    }
    uploader.run();
    for (const auto& [key, entry] : missing) all.known.insert_or_assign(key, entry);
    return result;
}

}  // namespace kn::cuda
