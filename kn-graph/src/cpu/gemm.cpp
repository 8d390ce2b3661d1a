#include "cpu/gemm.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>

#include <cblas.h>

#include "cpu/blas.h"

// Here, and not in a file of its own: a linker takes this object for gemm, and with it this
// definition before it looks for one in OpenBLAS.
extern "C" void* blas_memory_alloc(int position) {
    static std::mutex mutex;
    const std::lock_guard lock(mutex);
    return kn_openblas_memory_alloc(position);
}

namespace kn::cpu {

namespace {

/// What BLAS calls a transposed matrix and its leading dimension.
struct Layout {
    CBLAS_TRANSPOSE transpose;
    blasint leading;
};

blasint to_blas(std::int64_t n) {
    KN_CHECK(n <= std::numeric_limits<blasint>::max(), "a matrix beyond BLAS's range");
    return static_cast<blasint>(n);
}

template <class T>
Layout layout(const Matrix<T>& x, std::int64_t rows, std::int64_t columns) {
    // An axis of one element may have any stride.
    const bool plain =
        (x.column_stride == 1 || columns == 1) && (rows == 1 || x.row_stride >= columns);
    if (plain) return {CblasNoTrans, to_blas(rows == 1 ? columns : x.row_stride)};
    return {CblasTrans, to_blas(columns == 1 ? rows : x.column_stride)};
}

void blas(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, blasint m, blasint n, blasint k, float alpha,
          const float* a, blasint lda, const float* b, blasint ldb, float beta, float* c,
          blasint ldc) {
    cblas_sgemm(CblasRowMajor, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
void blas(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, blasint m, blasint n, blasint k, double alpha,
          const double* a, blasint lda, const double* b, blasint ldb, double beta, double* c,
          blasint ldc) {
    cblas_dgemm(CblasRowMajor, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
void blas_vector(CBLAS_TRANSPOSE t, blasint m, blasint n, float alpha, const float* a, blasint lda,
                 const float* x, blasint incx, float beta, float* y, blasint incy) {
    cblas_sgemv(CblasRowMajor, t, m, n, alpha, a, lda, x, incx, beta, y, incy);
}
void blas_vector(CBLAS_TRANSPOSE t, blasint m, blasint n, double alpha, const double* a,
                 blasint lda, const double* x, blasint incx, double beta, double* y, blasint incy) {
    cblas_dgemv(CblasRowMajor, t, m, n, alpha, a, lda, x, incx, beta, y, incy);
}

CBLAS_TRANSPOSE flip(CBLAS_TRANSPOSE t) { return t == CblasNoTrans ? CblasTrans : CblasNoTrans; }

/// How many parts each of m and n falls into.
struct Split {
    std::int64_t m;
    std::int64_t n;
};

Split split(std::int64_t count, std::int64_t m, std::int64_t n, std::int64_t k, int threads) {
    Split parts{1, 1};
    // A few parts a thread, so that a thread that is held up does not hold up all; but each worth a
    // call of BLAS.
    const double work = static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
    const auto wanted =
        static_cast<std::int64_t>(std::min(threads * 2.0, work * static_cast<double>(count) / 1e5));
    while (count * parts.m * parts.n < wanted) {
        const bool by_rows = m / parts.m >= n / parts.n;
        if ((by_rows ? m / parts.m : n / parts.n) < 32) break;
        (by_rows ? parts.m : parts.n) *= 2;
    }
    return parts;
}

/// Part i of `count` parts of [0, size), in multiples of 8.
std::pair<std::int64_t, std::int64_t> part(std::int64_t size, std::int64_t count, std::int64_t i) {
    const std::int64_t step = ((size + count - 1) / count + 7) / 8 * 8;
    return {std::min(size, i * step), std::min(size, (i + 1) * step)};
}

}  // namespace

bool is_matrix(std::int64_t m, std::int64_t n, std::int64_t row_stride,
               std::int64_t column_stride) {
    const bool plain = (column_stride == 1 || n == 1) && (m == 1 || row_stride >= n);
    const bool transposed = (row_stride == 1 || m == 1) && (n == 1 || column_stride >= m);
    return plain || transposed;
}

template <class T>
void gemm(std::int64_t m, std::int64_t n, std::int64_t k, T alpha, Matrix<T> a, Matrix<T> b, T beta,
          T* c, std::int64_t ldc) {
    if (m == 0 || n == 0) return;
    if (k == 0) {
        for (std::int64_t i = 0; i < m; ++i)
            for (std::int64_t j = 0; j < n; ++j)
                c[i * ldc + j] = beta == 0 ? T{0} : beta * c[i * ldc + j];
        return;
    }
    const Layout la = layout(a, m, k);
    const Layout lb = layout(b, k, n);
    // BLAS packs both matrices for a product, which for a vector costs more than the product.
    if (m == 1) {
        const bool plain = lb.transpose == CblasNoTrans;
        blas_vector(flip(lb.transpose), to_blas(plain ? k : n), to_blas(plain ? n : k), alpha,
                    b.data, lb.leading, a.data, la.transpose == CblasNoTrans ? 1 : la.leading, beta,
                    c, 1);
    } else if (n == 1) {
        const bool plain = la.transpose == CblasNoTrans;
        blas_vector(la.transpose, to_blas(plain ? m : k), to_blas(plain ? k : m), alpha, a.data,
                    la.leading, b.data, lb.transpose == CblasNoTrans ? lb.leading : 1, beta, c,
                    to_blas(ldc));
    } else {
        blas(la.transpose, lb.transpose, to_blas(m), to_blas(n), to_blas(k), alpha, a.data,
             la.leading, b.data, lb.leading, beta, c, to_blas(ldc));
    }
}

template <class T>
void gemm_batch(std::int64_t count, std::int64_t m, std::int64_t n, std::int64_t k,
                std::int64_t ldc, const std::function<Product<T>(std::int64_t)>& operands,
                const EvalContext& ctx) {
    const Split parts = split(count, m, n, k, ctx.threads().threads());
    const std::int64_t per_product = parts.m * parts.n;
    const double cost = 0.02 * static_cast<double>(m) * static_cast<double>(n) *
                            static_cast<double>(k) / static_cast<double>(per_product) +
                        100;
    ctx.parallel(count * per_product, cost, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t task = begin; task < end; ++task) {
            const Product<T> p = operands(task / per_product);
            const auto [i, i_end] = part(m, parts.m, task % per_product / parts.n);
            const auto [j, j_end] = part(n, parts.n, task % parts.n);
            gemm<T>(i_end - i, j_end - j, k, T{1}, p.a.at(i, 0), p.b.at(0, j), T{0},
                    p.c + i * ldc + j, ldc);
        }
    });
}

template void gemm<float>(std::int64_t, std::int64_t, std::int64_t, float, Matrix<float>,
                          Matrix<float>, float, float*, std::int64_t);
template void gemm<double>(std::int64_t, std::int64_t, std::int64_t, double, Matrix<double>,
                           Matrix<double>, double, double*, std::int64_t);
template void gemm_batch<float>(std::int64_t, std::int64_t, std::int64_t, std::int64_t,
                                std::int64_t, const std::function<Product<float>(std::int64_t)>&,
                                const EvalContext&);
template void gemm_batch<double>(std::int64_t, std::int64_t, std::int64_t, std::int64_t,
                                 std::int64_t, const std::function<Product<double>(std::int64_t)>&,
                                 const EvalContext&);

}  // namespace kn::cpu
