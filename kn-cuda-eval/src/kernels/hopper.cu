// Everything that only Hopper (sm_90a) knows: mbarriers, copies into shared memory that go on by themselves, clusters, and
// what surrounds the tensor cores' products. The host test shim has a text of its own in place of this one.
//
// Shared memory is named by 32-bit addresses, as the instructions want them.
#ifndef KN_SHIM_HOPPER

/// Dynamic shared memory of kernels that the tensor cores read: rows swizzled by eights of 128 bytes.
#define KN_SWIZZLED_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]

KN_DEVICE unsigned kn_shared_address(const void* pointer) {
    return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}
struct kn_words {
    unsigned x, y, z, w;
};
KN_DEVICE kn_words kn_load_shared(unsigned address) {
    kn_words data;
    asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(data.x), "=r"(data.y), "=r"(data.z), "=r"(data.w)
                 : "r"(address));
    return data;
}
KN_DEVICE void kn_store_shared(unsigned address, unsigned data) {
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(data) : "memory");
}
KN_DEVICE void kn_store_words(unsigned address, kn_words data) {
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(data.x), "r"(data.y), "r"(data.z), "r"(data.w)
                 : "memory");
}
KN_DEVICE void kn_clear_shared(unsigned address) {  // 16 bytes
    asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(address), "r"(0) : "memory");
}
/// What ordinary stores wrote becomes visible to the tensor cores and the copy engine.
KN_DEVICE void kn_publish() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/// Waits for all `threads` of the block that name this barrier, 1 to 15.
KN_DEVICE void kn_sync_some(int barrier, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
/// Registers of a thread of this warp group from here on, all its warps together.
#define KN_GIVE_REGISTERS(count) asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count))
#define KN_TAKE_REGISTERS(count) asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count))

/// Into L2, if it is not there.
KN_DEVICE void kn_fetch(const void* address) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
}
/// What nobody writes meanwhile: such loads may overtake stores, so that those of several vectors are under way together.
template <class Vector>
KN_DEVICE Vector kn_read(const Vector* from) {
    Vector vector;
    if constexpr (sizeof(Vector) == 16) {
        kn_words words;
        asm("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];"
            : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
            : "l"(from));
        memcpy(&vector, &words, 16);
    } else if constexpr (sizeof(Vector) == 4) {
        unsigned word;
        asm("ld.global.nc.u32 %0, [%1];" : "=r"(word) : "l"(from));
        memcpy(&vector, &word, 4);
    } else {
        vector = *from;
    }
    return vector;
}

/// x; what was computed from it before is not kept in registers for what comes.
KN_DEVICE int kn_anew(int x) {
    asm volatile("" : "+r"(x));
    return x;
}
/// 2^x to about 2^-22, very small results as 0.
KN_DEVICE float kn_power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
/// Two neighbours in memory, the first in the low half.
KN_DEVICE unsigned kn_two_halves(float first, float second) {
    unsigned both;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
    return both;
}
KN_DEVICE unsigned kn_two_bf16(float first, float second) {
    unsigned both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
    return both;
}
KN_DEVICE unsigned kn_two(kn_half, float first, float second) { return kn_two_halves(first, second); }
KN_DEVICE unsigned kn_two(kn_bf16, float first, float second) { return kn_two_bf16(first, second); }
/// Sums of both pairs' firsts and seconds, or zeros instead of what is less than nothing.
template <bool relu>
KN_DEVICE unsigned kn_add_two(kn_half, unsigned a, unsigned b) {
    unsigned both;
    if constexpr (relu)
        asm("fma.rn.relu.f16x2 %0, %1, %2, %3;" : "=r"(both) : "r"(a), "r"(0x3c003c00u), "r"(b));
    else
        asm("add.rn.f16x2 %0, %1, %2;" : "=r"(both) : "r"(a), "r"(b));
    return both;
}
template <bool relu>
KN_DEVICE unsigned kn_add_two(kn_bf16, unsigned a, unsigned b) {
    unsigned both;
    if constexpr (relu)
        asm("fma.rn.relu.bf16x2 %0, %1, %2, %3;" : "=r"(both) : "r"(a), "r"(0x3f803f80u), "r"(b));
    else
        asm("add.rn.bf16x2 %0, %1, %2;" : "=r"(both) : "r"(a), "r"(b));
    return both;
}
/// Products of both pairs' firsts and seconds, and such with a third pair's added.
KN_DEVICE unsigned kn_multiply_two(kn_half, unsigned a, unsigned b) {
    unsigned both;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(both) : "r"(a), "r"(b));
    return both;
}
KN_DEVICE unsigned kn_multiply_add_two(kn_half, unsigned a, unsigned b, unsigned c) {
    unsigned both;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(both) : "r"(a), "r"(b), "r"(c));
    return both;
}
/// The larger of both pairs' firsts and seconds, NaN if one is; of floats, likewise, all by their bits.
KN_DEVICE unsigned kn_max_two_halves(unsigned a, unsigned b) {
    unsigned both;
    asm("max.NaN.f16x2 %0, %1, %2;" : "=r"(both) : "r"(a), "r"(b));
    return both;
}
KN_DEVICE unsigned kn_max_two_bf16(unsigned a, unsigned b) {
    unsigned both;
    asm("max.NaN.bf16x2 %0, %1, %2;" : "=r"(both) : "r"(a), "r"(b));
    return both;
}
KN_DEVICE unsigned kn_max_float(unsigned a, unsigned b) {
    unsigned larger;
    asm("max.NaN.f32 %0, %1, %2;" : "=r"(larger) : "r"(a), "r"(b));
    return larger;
}

/// An mbarrier of 8 bytes: a phase is over when all arrivals and all bytes expected are there.
KN_DEVICE void kn_init_barrier(unsigned barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
/// Barriers are there for the whole cluster and for the copy engine.
KN_DEVICE void kn_publish_barriers() {
    asm volatile("fence.mbarrier_init.release.cluster;\nfence.proxy.async.shared::cta;" ::: "memory");
}
KN_DEVICE void kn_expect(unsigned barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
KN_DEVICE void kn_arrive(unsigned barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
/// At a barrier of any block of the cluster.
KN_DEVICE void kn_arrive_there(unsigned barrier) {
    asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(barrier) : "memory");
}
/// Until the phase of this parity is over; the one before the first has parity 1.
KN_DEVICE void kn_wait(unsigned barrier, unsigned parity) {
    unsigned done;
    do {
        asm volatile(
            "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.b32 %0, 1, 0, p;\n}"
            : "=r"(done)
            : "r"(barrier), "r"(parity)
            : "memory");
    } while (!done);
}

/// The same place in another block of the cluster.
KN_DEVICE unsigned kn_in_block(unsigned address, int block) {
    unsigned there;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(block));
    return there;
}
KN_DEVICE int kn_block_in_cluster() {
    int rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}
KN_DEVICE void kn_sync_cluster() {
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
/// The same in two halves, which order no memory: what comes between need not wait for the others.
KN_DEVICE void kn_arrive_in_cluster() { asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory"); }
KN_DEVICE void kn_wait_for_cluster() { asm volatile("barrier.cluster.wait.aligned;" ::: "memory"); }
/// To any block of the cluster, to whose barrier it brings 4 bytes.
KN_DEVICE void kn_send(unsigned address, float x, unsigned barrier) {
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(address),
                 "r"(__float_as_int(x)), "r"(barrier)
                 : "memory");
}
/// From any block of the cluster.
KN_DEVICE float kn_load_there(unsigned address) {
    float x;
    asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(x) : "r"(address));
    return x;
}
KN_DEVICE void kn_load_four_there(unsigned address, float* x) {
    asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(x[0]), "=f"(x[1]), "=f"(x[2]), "=f"(x[3])
                 : "r"(address));
}

/// Copies 16 bytes, or zeros.
KN_DEVICE void kn_copy_chunk(unsigned target, const void* source, bool inside) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(source), "r"(inside ? 16 : 0)
                 : "memory");
}
KN_DEVICE void kn_commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Until at most `open` groups of this thread's copies are under way.
template <int open>
KN_DEVICE void kn_wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(open) : "memory");
}
KN_DEVICE void kn_wait_all_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

/// What the copy engine reads: TensorMap of kn-cuda-sys. Copies announce their bytes at `barrier`.
struct __align__(64) kn_tensor_map {
    unsigned long long words[16];
};
KN_DEVICE void kn_copy_rows(unsigned target, const kn_tensor_map& map, unsigned barrier, int k, int row) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(target),
        "l"(&map), "r"(barrier), "r"(k), "r"(row)
        : "memory");
}
/// Of the windows from the one at (x, y) of an image on, their places (dx, dy).
KN_DEVICE void kn_copy_windows(unsigned target, const kn_tensor_map& map, unsigned barrier, int channel, int x, int y,
                               int image, int dx, int dy) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], "
        "[%2], {%7, %8};" ::"r"(target),
        "l"(&map), "r"(barrier), "r"(channel), "r"(x), "r"(y), "r"(image), "h"(static_cast<short>(dx)),
        "h"(static_cast<short>(dy))
        : "memory");
}
KN_DEVICE void kn_copy_weights(unsigned target, const kn_tensor_map& map, unsigned barrier, int channel, int tap,
                               int column) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(
            target),
        "l"(&map), "r"(barrier), "r"(channel), "r"(tap), "r"(column)
        : "memory");
}
/// The same to this place in the first `blocks` blocks of the cluster.
KN_DEVICE void kn_copy_weights_to_all(unsigned target, const kn_tensor_map& map, unsigned barrier, int channel, int tap,
                                      int column, int blocks) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], "
        "[%1, {%3, %4, %5}], [%2], %6;" ::"r"(target),
        "l"(&map), "r"(barrier), "r"(channel), "r"(tap), "r"(column), "h"(static_cast<short>((1 << blocks) - 1))
        : "memory");
}

/// Rows from `row` on of one head, of axes (width, rows, heads, batches).
KN_DEVICE void kn_copy_heads(unsigned target, const kn_tensor_map& map, unsigned barrier, int k, int row, int head, int batch) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(
            target),
        "l"(&map), "r"(barrier), "r"(k), "r"(row), "r"(head), "r"(batch)
        : "memory");
}
/// Of five axes.
KN_DEVICE void kn_copy_box(unsigned target, const kn_tensor_map& map, unsigned barrier, int a, int b, int c, int d, int e) {
    asm volatile(
        "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6, %7}], [%2];" ::
            "r"(target),
        "l"(&map), "r"(barrier), "r"(a), "r"(b), "r"(c), "r"(d), "r"(e)
        : "memory");
}

/// From shared memory to the map's tensor, by one thread, whose groups of such copies end when their sources have been read.
KN_DEVICE void kn_store_rows(const kn_tensor_map& map, unsigned source, int k, int row) {
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];" ::"l"(&map), "r"(k), "r"(row),
                 "r"(source)
                 : "memory");
}
/// The same of five axes.
KN_DEVICE void kn_store_box(const kn_tensor_map& map, unsigned source, int a, int b, int c, int d, int e) {
    asm volatile("cp.async.bulk.tensor.5d.global.shared::cta.bulk_group [%0, {%1, %2, %3, %4, %5}], [%6];" ::"l"(&map), "r"(a),
                 "r"(b), "r"(c), "r"(d), "r"(e), "r"(source)
                 : "memory");
}
KN_DEVICE void kn_commit_stores() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
template <int open>
KN_DEVICE void kn_wait_stores_read() {
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(open) : "memory");
}

/// Products (kn_wgmma, written by the generator) go on by themselves: before the first one, behind a group of them, and
/// until at most `open` groups are under way. Their sums are there after kn_arrived.
KN_DEVICE void kn_start_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
KN_DEVICE void kn_commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int open>
KN_DEVICE void kn_wait_products() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(open) : "memory");
}
template <int count>
KN_DEVICE void kn_arrived(float (&sums)[count]) {
#pragma unroll
    for (int i = 0; i < count; i++) asm volatile("" : "+f"(sums[i])::"memory");
}
/// Four matrices of eight rows of 16 bytes, whose rows' addresses the warp's threads bring, as operands of products.
KN_DEVICE void kn_load_matrices(unsigned (&a)[4], unsigned address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
                 : "r"(address));
}
/// The reverse: four matrices from where products have them.
KN_DEVICE void kn_store_operands(unsigned address, const unsigned (&a)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(a[0]), "r"(a[1]),
                 "r"(a[2]), "r"(a[3])
                 : "memory");
}
/// Four matrices whose columns the threads have as they have rows of sums: rows of 16 bytes of half types, at addresses that
/// the warp's threads bring.
KN_DEVICE void kn_store_matrices(unsigned address, const unsigned (&a)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(a[0]),
                 "r"(a[1]), "r"(a[2]), "r"(a[3])
                 : "memory");
}

#endif

/// Rows of 128 bytes in the 128-byte swizzle, eight of them 1024 bytes on; `leading`: bytes between panels of 64, where
/// columns are contiguous in k's stead.
KN_DEVICE unsigned long long kn_matrix(unsigned address, unsigned leading = 16) {
    return static_cast<unsigned long long>((address & 0x3ffff) >> 4 | leading >> 4 << 16) | (64ull << 32) | (1ull << 62);
}
/// Without a swizzle: eight rows of 16 bytes side by side, the next eight `stride` bytes behind, and the second half of a
/// step's k `leading` bytes behind the first.
KN_DEVICE unsigned long long kn_plain_matrix(unsigned address, unsigned leading, unsigned stride) {
    return static_cast<unsigned long long>((address & 0x3ffff) >> 4 | leading >> 4 << 16) |
           static_cast<unsigned long long>(stride >> 4) << 32;
}
/// The matrix that lies some bytes behind.
KN_DEVICE unsigned long long kn_behind(unsigned long long matrix, unsigned bytes) {
    const unsigned low = static_cast<unsigned>(matrix) + (bytes >> 4);
    return matrix >> 32 << 32 | low;
}
