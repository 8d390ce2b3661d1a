// What the host's text for src/kernels/hopper.cu calls; implemented in hopper.cpp.
#pragma once

struct KnHopperCalls {
    void (*sync_some)(int barrier, int threads);
    void (*sync_cluster)();
    int (*block_in_cluster)();
    unsigned (*in_block)(unsigned address, int block);

    void (*init_barrier)(unsigned barrier, int arrivals);
    void (*expect)(unsigned barrier, int bytes);
    void (*arrive)(unsigned barrier);
    void (*wait)(unsigned barrier, unsigned parity);
    void (*send)(unsigned address, float x, unsigned barrier);

    void (*copy_chunk)(unsigned target, const void* source, bool inside);
    void (*commit_copies)();
    void (*wait_copies)(int open);  // -1: all, committed or not
    // `map`: a HostMap; `offsets`: null, or the place inside a window; `blocks`: 0, or into so many
    // of the cluster.
    void (*copy_tensor)(unsigned target, const void* map, unsigned barrier, const int* place,
                        const int* offsets, int blocks);
    void (*store_tensor)(const void* map, unsigned source, const int* place);
    void (*commit_stores)();
    void (*wait_stores_read)(int open);

    void (*multiply)(char type, int columns, float* sums, const unsigned* rows_in_registers,
                     unsigned long long rows, unsigned long long b, bool columns_dense, bool first);
    void (*commit_products)();
    void (*wait_products)(int open);
    void (*load_matrices)(unsigned* a, unsigned address);
    void (*store_operands)(const unsigned* a, unsigned address);
    void (*store_matrices)(const unsigned* a, unsigned address);  // transposed
};
