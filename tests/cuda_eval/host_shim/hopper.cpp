#include "hopper.h"

#include <sys/mman.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <new>
#include <stdexcept>
#include <utility>

#include <fmt/core.h>

#include <kn/graph/tensor.h>

#include "fibers.h"

namespace kn::cuda {

namespace {

constexpr std::size_t window = 256 << 10;  // between the blocks' shared memories
constexpr unsigned pattern = 0xcd;

Hopper* hopper = nullptr;

int lane() { return Fibers::current() % 32; }

unsigned swizzled(unsigned address) { return address ^ (address >> 7 & 7) << 4; }

float half_to_float(unsigned short bits) {
    static const std::vector<float> table = [] {
        std::vector<unsigned short> all(65536);
        for (unsigned i = 0; i < 65536; ++i) all[i] = static_cast<unsigned short>(i);
        Tensor halves(DType::F16, {65536});
        std::memcpy(halves.mutable_bytes().data(), all.data(), 2 * all.size());
        const Tensor floats = halves.cast(DType::F32);
        const auto data = floats.data<float>();
        return std::vector<float>(data.begin(), data.end());
    }();
    return table[bits];
}

float bits_to_float(unsigned bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}

using Index = std::vector<std::int64_t>;

/// The rows of 128 bytes of a box that begins at `first`.
template <class Do>
void for_each_row(const TensorMapLayout& layout, const Index& first, const Do& work) {
    if (static_cast<std::size_t>(layout.box[0]) * size_of(layout.type) != 128)
        Fibers::fail("a box is not 128 bytes wide");
    std::size_t count = 1;
    for (std::size_t i = 1; i < first.size(); ++i) count *= static_cast<std::size_t>(layout.box[i]);
    for (std::size_t number = 0; number < count; ++number) {
        Index row = first;
        std::size_t rest = number;
        for (std::size_t i = 1; i < first.size(); ++i) {
            const auto extent = static_cast<std::size_t>(layout.box[i]);
            row[i] += static_cast<std::int64_t>(rest % extent);
            rest /= extent;
        }
        work(number, row);
    }
}

/// Whether rows have 128 bytes in the 128-byte swizzle; else they lie side by side, 16 bytes each.
bool is_swizzled(unsigned long long matrix) { return matrix >> 62 == 1; }
unsigned leading(unsigned long long matrix) {
    return static_cast<unsigned>(matrix >> 16 & 0x3fff) * 16;
}
unsigned stride(unsigned long long matrix) {
    return static_cast<unsigned>(matrix >> 32 & 0x3fff) * 16;
}
/// Where byte `k` of a row lies whose elements are neighbours in k.
unsigned place_in(unsigned long long matrix, int row, int k) {
    const auto in_eight = static_cast<unsigned>(row % 8), byte = static_cast<unsigned>(k);
    return static_cast<unsigned>(row / 8) * stride(matrix) +
           (is_swizzled(matrix) ? in_eight * 128 + byte
                                : in_eight * 16 + byte / 16 * leading(matrix) + byte % 16);
}

/// An element of 32 or 16 bits as the tensor cores see it.
float operand(char type, unsigned bits) {
    if (type == 't') return bits_to_float(bits & 0xffffe000u);
    if (type == 'b') return bits_to_float(bits << 16);
    return half_to_float(static_cast<unsigned short>(bits));
}

}  // namespace

/// As it lies in shared memory.
struct Hopper::Barrier {
    std::uint16_t arrivals, left;
    std::int32_t state;  // bytes to come, and the phase's parity as the lowest bit

    unsigned parity() const { return state & 1; }
    void change(int arrived, int bytes) {
        left = static_cast<std::uint16_t>(left - arrived);
        state += bytes * 2;
        if (left == 0 && state >> 1 == 0) {
            left = arrivals;
            state ^= 1;
        }
    }
};

Hopper::Hopper(int blocks, int threads, std::size_t shared_bytes)
    : blocks_(blocks), threads_(threads), shared_bytes_(shared_bytes) {
    mapped_bytes_ = (static_cast<std::size_t>(blocks) + 1) * window;
    void* const pages = mmap(nullptr, mapped_bytes_, PROT_NONE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_32BIT, -1, 0);
    if (pages == MAP_FAILED) throw std::bad_alloc();
    mapped_ = static_cast<std::byte*>(pages);
    const auto address = reinterpret_cast<std::uintptr_t>(pages);
    first_ = static_cast<unsigned>((address + window - 1) / window * window);
    for (int block = 0; block < blocks; ++block)
        if (shared_bytes > 0 && mprotect(shared(block), shared_bytes, PROT_READ | PROT_WRITE) != 0)
            throw std::bad_alloc();
    hopper = this;
}

Hopper::~Hopper() {
    munmap(mapped_, mapped_bytes_);
    hopper = nullptr;
}

void Hopper::start() {
    late_ = !late_;
    for (int block = 0; block < blocks_; ++block)
        std::memset(shared(block), pattern, shared_bytes_);
    states_.assign(static_cast<std::size_t>(blocks_ * threads_), {});
    some_.assign(static_cast<std::size_t>(blocks_), std::vector<Meeting>(16));
    cluster_ = {};
    copies_.clear();
}

std::byte* Hopper::shared(int block) const {
    return reinterpret_cast<std::byte*>(first_ + static_cast<std::uintptr_t>(block) * window);
}

bool Hopper::go_on() {
    if (copies_.empty()) return false;
    copies_.front()();
    copies_.pop_front();
    return true;
}

void Hopper::end() const {
    for (const Thread& thread : states_)
        if (!thread.stores.open.empty() || !thread.stores.committed.empty())
            throw std::runtime_error("a block ends while its memory is still to be stored");
}

Hopper::Thread& Hopper::thread() { return states_[static_cast<std::size_t>(Fibers::current())]; }

std::byte* Hopper::at(unsigned address, std::size_t bytes) {
    const std::size_t offset = address - first_;
    if (address < first_ || offset / window >= static_cast<std::size_t>(blocks_) ||
        offset % window + bytes > shared_bytes_)
        Fibers::fail(fmt::format("{} bytes at {:#x} are outside of shared memory", bytes, address));
    return reinterpret_cast<std::byte*>(std::uintptr_t{address});
}

Hopper::Barrier& Hopper::barrier_at(unsigned address) {
    if (address % 8 != 0) Fibers::fail("a barrier is not aligned");
    return *reinterpret_cast<Barrier*>(at(address, 8));
}

void Hopper::meet(Meeting& meeting, int threads) {
    const int generation = meeting.generation;
    if (++meeting.arrived == threads) {
        meeting.arrived = 0;
        meeting.generation++;
        return;
    }
    Fibers::wait([&] { return meeting.generation != generation; });
}

void Hopper::copy(unsigned target, const HostMap& map, const std::vector<int>& place,
                  const std::vector<int>& offsets) {
    const TensorMapLayout& layout = map.layout;
    const std::size_t size = size_of(layout.type), axes = layout.sizes.size();
    const std::size_t row = 128 / size;
    // Copies the row of 128 bytes from `index` on.
    const auto copy_row = [&](std::size_t number, const Index& index) {
        bool inside = true;
        const std::byte* from = map.data;
        for (std::size_t i = 1; i < axes; ++i) {
            inside = inside && index[i] >= 0 && index[i] < layout.sizes[i];
            from += index[i] * layout.strides[i - 1];
        }
        for (std::size_t i = 0; i < row; ++i) {
            const std::int64_t column = index[0] + static_cast<std::int64_t>(i);
            const bool there = inside && column >= 0 && column < layout.sizes[0];
            const auto to = static_cast<unsigned>(target + number * 128 + i * size);
            if (there)
                std::memcpy(at(swizzled(to), size), from + column * static_cast<std::int64_t>(size),
                            size);
            else
                std::memset(at(swizzled(to), size), 0, size);
        }
    };
    Index index(place.begin(), place.end());
    if (layout.windows) {
        const TensorMapLayout::Windows& w = *layout.windows;
        for (int n = 0; n < w.positions; ++n) {
            copy_row(static_cast<std::size_t>(n),
                     {index[0], index[1] + offsets[0], index[2] + offsets[1], index[3]});
            for (std::size_t axis = 1; axis <= 2; ++axis) {
                index[axis] += w.stride[axis - 1];
                if (index[axis] < layout.sizes[axis] + w.end[axis - 1]) break;
                index[axis] = w.begin[axis - 1];
                if (axis == 2) index[3]++;
            }
        }
        return;
    }
    for_each_row(layout, index, [&](std::size_t number, const Index& at) { copy_row(number, at); });
}

void Hopper::store(const Store& store) {
    const TensorMapLayout& layout = store.map->layout;
    const std::size_t size = size_of(layout.type);
    const Index index(store.place.begin(), store.place.end());
    for_each_row(layout, index, [&](std::size_t number, const Index& row) {
        std::byte* to = store.map->data;
        for (std::size_t i = 1; i < row.size(); ++i) {
            if (row[i] < 0 || row[i] >= layout.sizes[i]) return;
            to += row[i] * layout.strides[i - 1];
        }
        for (std::size_t i = 0; i < 128 / size; ++i) {
            const std::int64_t column = row[0] + static_cast<std::int64_t>(i);
            if (column < 0 || column >= layout.sizes[0]) continue;
            const auto from = static_cast<unsigned>(store.source + number * 128 + i * size);
            std::memcpy(to + column * static_cast<std::int64_t>(size), at(swizzled(from), size),
                        size);
        }
    });
}

float Hopper::element(char type, unsigned long long matrix, unsigned address) {
    unsigned bits = 0;
    const std::size_t size = type == 't' ? 4 : 2;
    const unsigned place = is_swizzled(matrix) ? swizzled(address) : address;
    std::memcpy(&bits, at(place, size), size);
    return operand(type, bits);
}

void Hopper::multiply(const Product& p) {
    const int fiber = Fibers::current(), thread = fiber % threads_;
    const int depth = p.type == 't' ? 8 : 16, size = p.type == 't' ? 4 : 2;
    const unsigned base = first_ + static_cast<unsigned>(fiber / threads_) * window;
    const auto start = [&](unsigned long long matrix) {
        return base + static_cast<unsigned>(matrix & 0x3fff) * 16;
    };
    float rows[2][16];
    std::memcpy(rows, p.registers, sizeof rows);
    for (int r = 0; r < 2 && !p.in_registers; ++r) {
        const int row = thread % 128 / 32 * 16 + lane() / 4 + 8 * r;
        for (int k = 0; k < depth; ++k)
            rows[r][k] = element(p.type, p.rows, start(p.rows) + place_in(p.rows, row, k * size));
    }
    for (int i = 0; i < p.columns / 4; ++i) {
        const int column = i / 2 * 8 + lane() % 4 * 2 + i % 2;
        float sums[2] = {};
        for (int k = 0; k < depth; ++k) {
            const unsigned place = p.columns_dense
                                       ? static_cast<unsigned>(column / 64) * leading(p.b) +
                                             static_cast<unsigned>(k / 8) * stride(p.b) +
                                             static_cast<unsigned>(k % 8 * 128 + column % 64 * size)
                                       : place_in(p.b, column, k * size);
            const float b = element(p.type, p.b, start(p.b) + place);
            for (int r = 0; r < 2; ++r) sums[r] += rows[r][k] * b;
        }
        for (int r = 0; r < 2; ++r) {
            float& sum = p.sums[i / 2 * 4 + r * 2 + i % 2];
            sum = (p.first ? 0 : sum) + sums[r];
        }
    }
}

namespace {

template <class Groups>
void commit(Groups& groups) {
    groups.committed.push_back(std::move(groups.open));
    groups.open.clear();
}

template <class Groups, class Do>
void finish(Groups& groups, std::size_t open, const Do& work) {
    for (; groups.committed.size() > open; groups.committed.pop_front())
        for (const auto& each : groups.committed.front()) work(each);
}

}  // namespace

template <class Use>
void Hopper::each_matrix(unsigned address, const Use& use) {
    const auto fiber = static_cast<std::size_t>(Fibers::current());
    states_[fiber].address = address;
    Fibers::barrier(0);
    for (unsigned matrix = 0; matrix < 4; ++matrix) {
        const auto row = fiber / 32 * 32 + matrix * 8 + static_cast<unsigned>(lane()) / 4;
        use(matrix, at(states_[row].address + static_cast<unsigned>(lane()) % 4 * 4, 4));
    }
    Fibers::barrier(0);
}

const KnHopperCalls Hopper::calls = {
    .sync_some =
        [](int barrier, int threads) {
            const auto block = static_cast<std::size_t>(Fibers::current() / hopper->threads_);
            hopper->meet(hopper->some_.at(block).at(static_cast<std::size_t>(barrier)), threads);
        },
    .sync_cluster = [] { hopper->meet(hopper->cluster_, hopper->blocks_ * hopper->threads_); },
    .block_in_cluster = [] { return Fibers::current() / hopper->threads_; },
    .in_block =
        [](unsigned address, int block) {
            return hopper->first_ + static_cast<unsigned>(block) * static_cast<unsigned>(window) +
                   (address - hopper->first_) % static_cast<unsigned>(window);
        },
    .init_barrier =
        [](unsigned barrier, int arrivals) {
            const auto count = static_cast<std::uint16_t>(arrivals);
            hopper->barrier_at(barrier) = {count, count, 0};
        },
    .expect = [](unsigned barrier, int bytes) { hopper->barrier_at(barrier).change(1, bytes); },
    .arrive = [](unsigned barrier) { hopper->barrier_at(barrier).change(1, 0); },
    .wait =
        [](unsigned barrier, unsigned parity) {
            const Barrier& state = hopper->barrier_at(barrier);
            Fibers::wait([&] { return state.parity() != parity; });
        },
    .send =
        [](unsigned address, float x, unsigned barrier) {
            const auto work = [=] {
                *reinterpret_cast<float*>(hopper->at(address, 4)) = x;
                hopper->barrier_at(barrier).change(0, -4);
            };
            if (hopper->late_)
                hopper->copies_.push_back(work);
            else
                work();
        },
    .copy_chunk =
        [](unsigned target, const void* source, bool inside) {
            hopper->thread().chunks.open.push_back({target, inside ? source : nullptr});
        },
    .commit_copies = [] { commit(hopper->thread().chunks); },
    .wait_copies =
        [](int open) {
            auto& chunks = hopper->thread().chunks;
            if (open < 0) commit(chunks);
            finish(chunks, static_cast<std::size_t>(std::max(open, 0)), [](const Chunk& chunk) {
                std::byte* const to = hopper->at(chunk.target, 16);
                if (chunk.source)
                    std::memcpy(to, chunk.source, 16);
                else
                    std::memset(to, 0, 16);
            });
        },
    .copy_tensor =
        [](unsigned target, const void* map, unsigned barrier, const int* place, const int* offsets,
           int blocks) {
            if (target % 128 != 0) Fibers::fail("a tensor copy's target is not aligned");
            const auto& host_map = *static_cast<const HostMap*>(map);
            const std::vector<int> from(place, place + host_map.layout.sizes.size());
            const std::vector<int> inside(offsets, offsets ? offsets + 2 : nullptr);
            for (int i = 0; i < std::max(blocks, 1); ++i) {
                const auto there = [&](unsigned address) {
                    return blocks > 0 ? calls.in_block(address, i) : address;
                };
                const auto work = [=, &host_map, to = there(target), done = there(barrier)] {
                    const TensorMapLayout& layout = host_map.layout;
                    int bytes = 128;
                    if (layout.windows)
                        bytes *= layout.windows->positions;
                    else
                        for (std::size_t axis = 1; axis < layout.box.size(); ++axis)
                            bytes *= layout.box[axis];
                    hopper->copy(to, host_map, from, inside);
                    hopper->barrier_at(done).change(0, -bytes);
                };
                if (hopper->late_)
                    hopper->copies_.push_back(work);
                else
                    work();
            }
        },
    .store_tensor =
        [](const void* map, unsigned source, const int* place) {
            if (source % 128 != 0) Fibers::fail("a tensor copy's source is not aligned");
            const auto* host_map = static_cast<const HostMap*>(map);
            hopper->thread().stores.open.push_back(
                {host_map, source, {place, place + host_map->layout.sizes.size()}});
        },
    .commit_stores = [] { commit(hopper->thread().stores); },
    .wait_stores_read =
        [](int open) {
            finish(hopper->thread().stores, static_cast<std::size_t>(open),
                   [](const Store& store) { hopper->store(store); });
        },
    .multiply =
        [](char type, int columns, float* sums, const unsigned* registers, unsigned long long rows,
           unsigned long long b, bool columns_dense, bool first) {
            const auto fiber = static_cast<std::size_t>(Fibers::current());
            Product product{type, columns,       sums, registers != nullptr, {}, rows,
                            b,    columns_dense, first};
            if (registers) {  // what the four threads of two rows have
                std::memcpy(hopper->states_[fiber].registers, registers, 16);
                Fibers::barrier(0);
                const int each = type == 't' ? 1 : 2, depth = 8 * each;
                for (int r = 0; r < 2; ++r)
                    for (int k = 0; k < depth; ++k) {
                        const auto quad =
                            fiber / 4 * 4 + static_cast<std::size_t>(k % (4 * each) / each);
                        const unsigned word =
                            hopper->states_[quad].registers[r + k / (4 * each) * 2];
                        product.registers[r][k] =
                            operand(type, each == 1 ? word : word >> k % 2 * 16 & 0xffff);
                    }
                Fibers::barrier(0);
            }
            hopper->thread().products.open.push_back(product);
        },
    .commit_products = [] { commit(hopper->thread().products); },
    .wait_products =
        [](int open) {
            finish(hopper->thread().products, static_cast<std::size_t>(open),
                   [](const Product& product) { hopper->multiply(product); });
        },
    .load_matrices =
        [](unsigned* a, unsigned address) {
            hopper->each_matrix(address, [&](unsigned matrix, void* own) {
                std::memcpy(a + matrix, own, 4);
            });
        },
    .store_operands =
        [](const unsigned* a, unsigned address) {
            hopper->each_matrix(address, [&](unsigned matrix, void* own) {
                std::memcpy(own, a + matrix, 4);
            });
        },
    .store_matrices =
        [](const unsigned* a, unsigned address) {
            const auto fiber = static_cast<std::size_t>(Fibers::current());
            hopper->states_[fiber].address = address;
            Fibers::barrier(0);
            for (unsigned matrix = 0; matrix < 4; ++matrix)
                for (unsigned i = 0; i < 2; ++i) {
                    const auto row = static_cast<unsigned>(lane()) % 4 * 2 + i;
                    const unsigned to =
                        hopper->states_[fiber / 32 * 32 + matrix * 8 + row].address +
                        static_cast<unsigned>(lane()) / 4 * 2;
                    const auto half = static_cast<unsigned short>(a[matrix] >> 16 * i);
                    std::memcpy(hopper->at(to, 2), &half, 2);
                }
            Fibers::barrier(0);
        },
};

}  // namespace kn::cuda
