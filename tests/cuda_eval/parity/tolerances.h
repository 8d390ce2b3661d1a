// What each kind of operation may lose against f64, by dtype, and why: the one table of the parity
// suites.
#pragma once

#include <kn/testing/compare.h>
#include <kn/testing/print.h>

namespace kn::test {

enum class Loses {
    Nothing,    // moves or counts
    Rounding,   // correctly rounded arithmetic, one or two operations deep
    Function,   // exp, log, sin, ...: the libraries' functions
    Sum,        // hundreds of terms, norms and softmaxes
    Product,    // MatMul, Conv, Attention: thousands of terms
    Recursion,  // what feeds on itself: recurrent cells, running products
};

/// `dtype` of the result; `precision` of the plan (F32: the graph's own types).
inline testing::Tolerance parity_tolerance(Loses loses, DType dtype,
                                           Precision precision = Precision::F32) {
    using enum Loses;
    struct Row {
        Loses loses;
        testing::Tolerance f64, f32, tf32, f16, bf16;
    };
    // Unit roundoffs: f64 1.1e-16, f32 6e-8, tf32 and f16 4.9e-4, bf16 3.9e-3.
    // {relative, of the peak}.
    // clang-format off
    static constexpr Row table[] = {
        // One unit for each of at most four operations.
        {Rounding, {5e-16, 5e-16}, {2.5e-7, 1e-7}, {2.5e-7, 1e-7}, {1e-3, 5e-4}, {8e-3, 4e-3}},
        // CUDA's single-precision functions are good to 4 units, pow and the hyperbolic ones to 9;
        // tan, gelu and mish chain two.
        {Function, {5e-15, 5e-16}, {4e-6, 5e-7}, {4e-6, 5e-7}, {1.5e-3, 5e-4}, {1.2e-2, 4e-3}},
        // A sum of n terms in any order errs by at most n units of the sum of magnitudes, in
        // practice by its square root; halves sum in f32 and round once or twice.
        {Sum, {1e-13, 1e-14}, {1e-5, 3e-6}, {1e-5, 3e-6}, {2e-3, 1e-3}, {1.6e-2, 8e-3}},
        // Likewise; cancellation makes small results relatively bad, so the peak decides. Winograd
        // and three-TF32 products stay within it. tf32 and halves round their operands first: two
        // units of each product, averaging out.
        {Product, {1e-13, 1e-13}, {1e-5, 1e-5}, {2e-3, 2e-3}, {3e-3, 3e-3}, {2.4e-2, 2.4e-2}},
        // Errors of earlier elements are carried on.
        {Recursion, {1e-12, 1e-12}, {3e-5, 3e-5}, {3e-3, 3e-3}, {1e-2, 1e-2}, {6e-2, 6e-2}},
    };
    // clang-format on
    for (const Row& row : table) {
        if (row.loses != loses) continue;
        if (dtype == DType::BF16 || precision == Precision::BF16) return row.bf16;
        if (dtype == DType::F16 || precision == Precision::F16) return row.f16;
        if (dtype == DType::F64) return row.f64;
        if (dtype != DType::F32) break;
        return precision == Precision::TF32 ? row.tf32 : row.f32;
    }
    return {0, 0};
}

}  // namespace kn::test
