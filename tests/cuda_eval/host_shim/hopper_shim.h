// What stands in for src/kernels/hopper.cu in the host's kernels. Dynamic shared memory lies below
// 2^32, so that addresses are what they are on the device: 32 bits.
#define KN_SHIM_HOPPER
#include "hopper_calls.h"

#define KN_SWIZZLED_SHARED(name) unsigned char* const name = kn_shim.dynamic_shared
#define __grid_constant__
#define KN_GIVE_REGISTERS(count)
#define KN_TAKE_REGISTERS(count)

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
    return {x, y, z, w};
}
static inline float fmaxf(float x, float y) { return __builtin_fmaxf(x, y); }

struct kn_words {
    unsigned x, y, z, w;
};
template <class T>
static inline T& kn_shim_shared(unsigned address) {
    return *(T*)(unsigned long long)address;
}
static inline unsigned kn_shared_address(const void* pointer) {
    return (unsigned)(unsigned long long)pointer;
}
static inline kn_words kn_load_shared(unsigned address) {
    return kn_shim_shared<kn_words>(address);
}
static inline void kn_store_shared(unsigned address, unsigned data) {
    kn_shim_shared<unsigned>(address) = data;
}
static inline void kn_store_words(unsigned address, kn_words data) {
    kn_shim_shared<kn_words>(address) = data;
}
static inline void kn_clear_shared(unsigned address) { kn_shim_shared<kn_words>(address) = {}; }
static inline void kn_publish() {}
static inline void kn_fetch(const void*) {}
template <class Vector>
static inline Vector kn_read(const Vector* from) {
    return *from;
}

static inline int kn_anew(int x) { return x; }
static inline float kn_power_of_two(float x) { return __builtin_exp2f(x); }
static inline unsigned kn_two_halves(float first, float second) {
    return kn_to_half(first).bits | (unsigned)kn_to_half(second).bits << 16;
}
static inline unsigned kn_two_bf16(float first, float second) {
    return kn_to_bf16(first).bits | (unsigned)kn_to_bf16(second).bits << 16;
}
static inline unsigned kn_two(kn_half, float first, float second) {
    return kn_two_halves(first, second);
}
static inline unsigned kn_two(kn_bf16, float first, float second) {
    return kn_two_bf16(first, second);
}
static inline float kn_shim_max(float a, float b) { return a > b || a != a ? a : b; }
static inline unsigned kn_max_two_halves(unsigned a, unsigned b) {
    const auto of = [](unsigned bits) { return kn_float(kn_half{(unsigned short)bits}); };
    return kn_two_halves(kn_shim_max(of(a), of(b)), kn_shim_max(of(a >> 16), of(b >> 16)));
}
static inline unsigned kn_max_two_bf16(unsigned a, unsigned b) {
    const auto of = [](unsigned bits) { return kn_float(kn_bf16{(unsigned short)bits}); };
    return kn_two_bf16(kn_shim_max(of(a), of(b)), kn_shim_max(of(a >> 16), of(b >> 16)));
}
template <bool relu, class T>
static inline unsigned kn_add_two(T, unsigned a, unsigned b) {
    const auto sum = [&](int shift) {
        const float x =
            kn_float(T{(unsigned short)(a >> shift)}) + kn_float(T{(unsigned short)(b >> shift)});
        return relu ? kn_shim_max(x, 0) : x;
    };
    return kn_two(T(), sum(0), sum(16));
}
template <class T>
static inline unsigned kn_multiply_add_two(T, unsigned a, unsigned b, unsigned c) {
    const auto of = [](unsigned bits) { return kn_float(T{(unsigned short)bits}); };
    return kn_two(T(), of(a) * of(b) + of(c), of(a >> 16) * of(b >> 16) + of(c >> 16));
}
template <class T>
static inline unsigned kn_multiply_two(T type, unsigned a, unsigned b) {
    return kn_multiply_add_two(type, a, b, 0);
}
static inline unsigned kn_max_float(unsigned a, unsigned b) {
    return kn_float_to_bits(kn_shim_max(kn_bits_to_float(a), kn_bits_to_float(b)));
}

#define KN_CALL kn_shim.hopper->
static inline void kn_sync_some(int barrier, int threads) { KN_CALL sync_some(barrier, threads); }
static inline void kn_sync_cluster() { KN_CALL sync_cluster(); }
static inline void kn_arrive_in_cluster() {}
static inline void kn_wait_for_cluster() { kn_sync_cluster(); }
static inline int kn_block_in_cluster() { return KN_CALL block_in_cluster(); }
static inline unsigned kn_in_block(unsigned address, int block) {
    return KN_CALL in_block(address, block);
}
static inline float kn_load_there(unsigned address) { return kn_shim_shared<float>(address); }
static inline void kn_load_four_there(unsigned address, float* x) {
    for (int i = 0; i < 4; i++) x[i] = kn_load_there(address + 4 * i);
}

static inline void kn_init_barrier(unsigned barrier, int arrivals) {
    KN_CALL init_barrier(barrier, arrivals);
}
static inline void kn_publish_barriers() {}
static inline void kn_expect(unsigned barrier, int bytes) { KN_CALL expect(barrier, bytes); }
static inline void kn_arrive(unsigned barrier) { KN_CALL arrive(barrier); }
static inline void kn_arrive_there(unsigned barrier) { KN_CALL arrive(barrier); }
static inline void kn_wait(unsigned barrier, unsigned parity) { KN_CALL wait(barrier, parity); }
static inline void kn_send(unsigned address, float x, unsigned barrier) {
    KN_CALL send(address, x, barrier);
}

static inline void kn_copy_chunk(unsigned target, const void* source, bool inside) {
    KN_CALL copy_chunk(target, source, inside);
}
static inline void kn_commit_copies() { KN_CALL commit_copies(); }
template <int open>
static inline void kn_wait_copies() {
    KN_CALL wait_copies(open);
}
static inline void kn_wait_all_copies() { KN_CALL wait_copies(-1); }

struct kn_tensor_map {
    explicit kn_tensor_map(unsigned long long bits) : map((const void*)bits) {}
    const void* map;
};
static inline void kn_copy_rows(unsigned target, const kn_tensor_map& map, unsigned barrier, int k,
                                int row) {
    const int place[] = {k, row};
    KN_CALL copy_tensor(target, map.map, barrier, place, nullptr, 0);
}
static inline void kn_copy_windows(unsigned target, const kn_tensor_map& map, unsigned barrier,
                                   int channel, int x, int y, int image, int dx, int dy) {
    const int place[] = {channel, x, y, image}, offsets[] = {dx, dy};
    KN_CALL copy_tensor(target, map.map, barrier, place, offsets, 0);
}
static inline void kn_copy_weights_to_all(unsigned target, const kn_tensor_map& map,
                                          unsigned barrier, int channel, int tap, int column,
                                          int blocks) {
    const int place[] = {channel, tap, column};
    KN_CALL copy_tensor(target, map.map, barrier, place, nullptr, blocks);
}
static inline void kn_copy_weights(unsigned target, const kn_tensor_map& map, unsigned barrier,
                                   int channel, int tap, int column) {
    kn_copy_weights_to_all(target, map, barrier, channel, tap, column, 0);
}
static inline void kn_copy_heads(unsigned target, const kn_tensor_map& map, unsigned barrier, int k,
                                 int row, int head, int batch) {
    const int place[] = {k, row, head, batch};
    KN_CALL copy_tensor(target, map.map, barrier, place, nullptr, 0);
}
static inline void kn_copy_box(unsigned target, const kn_tensor_map& map, unsigned barrier, int a,
                               int b, int c, int d, int e) {
    const int place[] = {a, b, c, d, e};
    KN_CALL copy_tensor(target, map.map, barrier, place, nullptr, 0);
}

static inline void kn_store_rows(const kn_tensor_map& map, unsigned source, int k, int row) {
    const int place[] = {k, row};
    KN_CALL store_tensor(map.map, source, place);
}
static inline void kn_store_box(const kn_tensor_map& map, unsigned source, int a, int b, int c,
                                int d, int e) {
    const int place[] = {a, b, c, d, e};
    KN_CALL store_tensor(map.map, source, place);
}
static inline void kn_commit_stores() { KN_CALL commit_stores(); }
template <int open>
static inline void kn_wait_stores_read() {
    KN_CALL wait_stores_read(open);
}

static inline const unsigned* kn_shim_registers(const unsigned (&a)[4]) { return a; }
static inline const unsigned* kn_shim_registers(unsigned long long) { return nullptr; }
static inline unsigned long long kn_shim_matrix(const unsigned (&)[4]) { return 0; }
static inline unsigned long long kn_shim_matrix(unsigned long long a) { return a; }
// types by their first letters: f16, bf16, tf32
#define KN_SHIM_WGMMA(type, columns, columns_dense, sums, a, b, first)                    \
    KN_CALL multiply(#type[0], columns, sums, kn_shim_registers(a), kn_shim_matrix(a), b, \
                     columns_dense, first)
static inline void kn_start_products() {}
static inline void kn_commit_products() { KN_CALL commit_products(); }
template <int open>
static inline void kn_wait_products() {
    KN_CALL wait_products(open);
}
template <int count>
static inline void kn_arrived(float (&)[count]) {}
static inline void kn_load_matrices(unsigned (&a)[4], unsigned address) {
    KN_CALL load_matrices(a, address);
}
static inline void kn_store_operands(unsigned address, const unsigned (&a)[4]) {
    KN_CALL store_operands(a, address);
}
static inline void kn_store_matrices(unsigned address, const unsigned (&a)[4]) {
    KN_CALL store_matrices(a, address);
}
