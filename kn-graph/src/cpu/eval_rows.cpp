// Softmax and Norm.
#include <cmath>

#include "cpu/rows.h"
#include "cpu/softmax_row.h"

namespace kn::cpu {

namespace {

/// (x - mean) / sqrt(variance + epsilon). The mean is split in two, so that a large one costs no
/// digits.
template <class T>
inline __attribute__((always_inline)) void mean_variance_row(const T* x, T* y, std::int64_t n,
                                                             double epsilon) {
    const auto count = static_cast<double>(n);
    const double mean = sum_of(x, n, [](T v) { return v; }) / count;
    const T high = static_cast<T>(mean);
    const T low = static_cast<T>(mean - static_cast<double>(high));
    const double variance =
        sum_of(x, n, [=](T v) { return ((v - high) - low) * ((v - high) - low); }) / count;
    const T factor = static_cast<T>(1 / std::sqrt(variance + epsilon));
#pragma GCC ivdep
    for (std::int64_t i = 0; i < n; ++i) y[i] = ((x[i] - high) - low) * factor;
}

template <class T>
inline __attribute__((always_inline)) void mean_square_row(const T* x, T* y, std::int64_t n,
                                                           double epsilon) {
    const double square = sum_of(x, n, [](T v) { return v * v; }) / static_cast<double>(n);
    const T factor = static_cast<T>(1 / std::sqrt(square + epsilon));
#pragma GCC ivdep
    for (std::int64_t i = 0; i < n; ++i) y[i] = x[i] * factor;
}

}  // namespace

Arrays eval(const op::Softmax& op, EvalContext& ctx) {
    if (op.log)
        return {map_rows(op.x, {op.axis}, 2.5, ctx, []<class T>(const T* x, T* y, std::int64_t n) {
            log_softmax_row(x, y, n);
        })};
    return {map_rows(op.x, {op.axis}, 2, ctx,
                     []<class T>(const T* x, T* y, std::int64_t n) { softmax_row(x, y, n); })};
}

Arrays eval(const op::Norm& op, EvalContext& ctx) {
    const double epsilon = op.epsilon;
    if (op.kind == NormKind::MeanVariance)
        return {map_rows(op.x, op.axes, 0.6, ctx, [=]<class T>(const T* x, T* y, std::int64_t n) {
            mean_variance_row(x, y, n, epsilon);
        })};
    return {map_rows(op.x, op.axes, 0.4, ctx, [=]<class T>(const T* x, T* y, std::int64_t n) {
        mean_square_row(x, y, n, epsilon);
    })};
}

}  // namespace kn::cpu
