// Source of attention on Hopper's tensor cores, for half types.
//
//     o[b, h, s, :] = sum over t of softmax over t (scale q[b, h, s, :] k[b, h / sharing, t, :])
//     v[b, h / sharing, t, :]
//
// Tensors are strided views whose rows are dense, at addresses of a multiple of 16 bytes.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include <kn/cuda_sys/library.h>
#include <kn/cuda_sys/tensor_map.h>
#include <kn/graph/dtype.h>

namespace kn::cuda {

/// How attention is cut into tiles.
struct AttentionTiles {
    int groups = 2;  ///< of 64 queries and 128 threads, in a block
    int keys = 64;   ///< at a time, a multiple of 16
    int stages = 2;  ///< tiles of keys in flight
    int blocks = 1;  ///< on a multiprocessor, as the register count allows
    int rounds = 1;  ///< tiles of queries one after the other, keys all in shared memory
    bool operator==(const AttentionTiles&) const = default;
};

struct TensorAttention {
    DType dtype = DType::F16;  ///< F16 or BF16
    std::int64_t batch = 1, heads = 1, key_heads = 1;
    std::int64_t queries = 0, keys = 0;
    std::int64_t width = 0, value_width = 0;  ///< of a head
    double scale = 1;
    /// Query s sees the keys up to s + shift; none: all.
    std::optional<std::int64_t> causal_shift;
    /// In elements, between batches, heads, rows.
    std::array<std::int64_t, 3> q_strides{}, k_strides{}, v_strides{}, o_strides{};
    AttentionTiles tiles;

    /// One group more copies keys and values.
    int threads() const { return (tiles.groups + 1) * 128; }
    std::size_t shared_bytes() const;
    Dim3 grid() const;
    /// What the copy engine reads, a tile at a time.
    TensorMapLayout map_q() const;
    TensorMapLayout map_k() const;
    TensorMapLayout map_v() const;

    /// Why the kernel cannot do this, whatever strides and tiles.
    std::optional<std::string> why_not() const;
};

/// Registers of a thread: at launch, and when the copying group has given away what it can do
/// without.
struct AttentionRegisters {
    int launched, producer, consumer;
};
AttentionRegisters registers(const AttentionTiles& tiles);
/// The tiles with as many stages as shared memory holds, at most one a tile of keys; below 1: none.
int most_stages(const TensorAttention& attention, const AttentionTiles& tiles);

/// The text in front of a kernel that calls kn_attention({q, k, v}, o), of kn_tensor_maps and an
/// unsigned short*. Needs the target sm_90a, threads() threads a block and shared_bytes() of
/// dynamic shared memory.
std::string tensor_attention_helpers(const TensorAttention& attention);

}  // namespace kn::cuda
