// What Hopper's instructions do to the shared memory of a cluster of blocks, as late or as early as
// they may: products read their operands when they are waited for; copies of the engine write at
// once or, in every other cluster, when nobody else can go on.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <vector>

#include <kn/cuda_sys/tensor_map.h>

#include "hopper_calls.h"

namespace kn::cuda {

/// What a kernel has for a kn_tensor_map.
struct HostMap {
    TensorMapLayout layout;
    std::byte* data;
};

/// A cluster at a time; one object at a time.
class Hopper {
  public:
    Hopper(int blocks, int threads, std::size_t shared_bytes);
    Hopper(const Hopper&) = delete;
    Hopper& operator=(const Hopper&) = delete;
    ~Hopper();

    static const KnHopperCalls calls;

    /// Forgets what a cluster before this one left behind.
    void start();
    std::byte* shared(int block) const;
    /// Does a copy that is under way; false if there is none.
    bool go_on();
    /// Throws where a block went while its memory was still to be read.
    void end() const;

  private:
    struct Meeting {
        int arrived = 0, generation = 0;
    };
    struct Product {
        char type;
        int columns;
        float* sums;
        bool in_registers;
        float registers[2][16];  // of this thread's two rows
        unsigned long long rows, b;
        bool columns_dense, first;
    };
    struct Chunk {
        unsigned target;
        const void* source;  // null: zeros
    };
    struct Store {
        const HostMap* map;
        unsigned source;
        std::vector<int> place;
    };
    template <class Work>
    struct Groups {
        std::vector<Work> open;
        std::deque<std::vector<Work>> committed;
    };
    struct Thread {
        Groups<Product> products;
        Groups<Chunk> chunks;
        Groups<Store> stores;
        unsigned registers[4];
        unsigned address;
    };
    struct Barrier;

    Thread& thread();  // the one that runs
    Barrier& barrier_at(unsigned address);
    std::byte* at(unsigned address, std::size_t bytes);
    void meet(Meeting& meeting, int threads);
    void copy(unsigned target, const HostMap& map, const std::vector<int>& place,
              const std::vector<int>& offsets);
    void store(const Store& store);
    void multiply(const Product& product);
    /// What a thread of a warp has of each of four 8x8 matrices, whose rows lie at the addresses that
    /// 8 threads each give.
    template <class Use>
    void each_matrix(unsigned address, const Use& use);
    /// Of a matrix that kn_matrix or kn_plain_matrix describes.
    float element(char type, unsigned long long matrix, unsigned address);

    int blocks_, threads_;
    std::byte* mapped_ = nullptr;
    std::size_t mapped_bytes_ = 0, shared_bytes_;
    unsigned first_ = 0;  // address of block 0's shared memory
    bool late_ = false;
    std::vector<Thread> states_;
    std::vector<std::vector<Meeting>> some_;  // of each block, by barrier
    Meeting cluster_;
    std::deque<std::function<void()>> copies_;
};

}  // namespace kn::cuda
