// What makes the serial OpenBLAS safe to call from several threads.
#pragma once

/// OpenBLAS's own, under another name (third_party/openblas.cmake).
extern "C" void* kn_openblas_memory_alloc(int position);
/// What OpenBLAS calls for the work buffer of a product.
extern "C" void* blas_memory_alloc(int position);
extern "C" void blas_memory_free(void* buffer);
