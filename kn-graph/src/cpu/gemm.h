// Matrix products of float and double over OpenBLAS, whose calls are serial here; threads work on
// panels of the result.
#pragma once

#include "cpu/eval.h"

namespace kn::cpu {

/// A matrix in memory: element (i, j) at data[i * rows + j * columns]; one of the strides is 1 (or
/// the extent along it is).
template <class T>
struct Matrix {
    const T* data;
    std::int64_t row_stride;
    std::int64_t column_stride;

    Matrix at(std::int64_t row, std::int64_t column) const {
        return {data + row * row_stride + column * column_stride, row_stride, column_stride};
    }
};

/// Whether strides (rows, columns) of an m x n matrix are such that Matrix may have them.
bool is_matrix(std::int64_t m, std::int64_t n, std::int64_t row_stride, std::int64_t column_stride);

/// c[m, n] = alpha a[m, k] b[k, n] + beta c, c with rows ldc apart. On the calling thread alone.
template <class T>
void gemm(std::int64_t m, std::int64_t n, std::int64_t k, T alpha, Matrix<T> a, Matrix<T> b, T beta,
          T* c, std::int64_t ldc);

/// `count` products of the same sizes at once, on all threads: operands(i) gives a, b and c of
/// product i.
template <class T>
struct Product {
    Matrix<T> a;
    Matrix<T> b;
    T* c;
};
template <class T>
void gemm_batch(std::int64_t count, std::int64_t m, std::int64_t n, std::int64_t k,
                std::int64_t ldc, const std::function<Product<T>(std::int64_t)>& operands,
                const EvalContext& ctx);

/// f16 and bf16 as f32 in row-major order; other arrays as they are.
Array widened(const Array& x, const EvalContext& ctx);
/// Converted to `dtype` (f32 rounded to f16 or bf16); an array of `dtype` as it is.
Array narrowed(const Array& x, DType dtype, const EvalContext& ctx);

}  // namespace kn::cpu
