// What kernels have in common that keep stages of shared memory full: some threads fill them, others empty them, and mbarriers
// say so to each other.

// Place in a ring of `count` stages, and how often it went round, as barriers tell: modulo 2.
template <int count>
struct kn_ring {
    int stage = 0;
    unsigned phase = 0;
    KN_DEVICE void next() {
        if (++stage == count) {
            stage = 0;
            phase ^= 1;
        }
    }
    // Past what others take.
    KN_DEVICE void skip(int stages) {
        stage += stages;
        phase ^= stage / count & 1;
        stage %= count;
    }
};

// A ring's: `count` that say that a stage is full, and behind them as many for empty ones.
template <int count>
struct kn_ring_barriers {
    unsigned base;
    KN_DEVICE unsigned full(int stage) const { return base + stage * 8; }
    KN_DEVICE unsigned empty(int stage) const { return base + (count + stage) * 8; }
};

// Once for the warp, when all its threads are here.
KN_DEVICE void kn_arrive_warp(unsigned barrier) {
    kn_sync_warp();
    if (threadIdx.x % 32 == 0) kn_arrive(barrier);
}
