// What the elementwise operations share: walking operands block by block, and which dtypes a table
// row has kernels for.
#pragma once

#include <kn/graph/scalar_ops.h>

#include "cpu/eval.h"
#include "cpu/simd.h"
#include "cpu/strided.h"

namespace kn::cpu {

/// As kn::accepts, at compile time and for compute types (f16 and bf16 are float by then).
template <class T>
constexpr bool has_kernel(Accepts accepts) {
    constexpr bool real = std::is_floating_point_v<T>;
    constexpr bool boolean = std::is_same_v<T, bool>;
    switch (accepts) {
        case Accepts::Float: return real;
        case Accepts::Signed: return real || (std::is_signed_v<T> && !boolean);
        case Accepts::Numeric: return !boolean;
        case Accepts::Int: return !real && !boolean;
        case Accepts::Bool: return boolean;
        case Accepts::BoolInt: return !real;
        case Accepts::Any: return true;
    }
    return false;
}

/// Runs a loop body; only floating-point loops are worth a second copy for AVX2.
template <class T, class F>
void run_loop(const F& f) {
    if constexpr (std::is_floating_point_v<T>)
        simd(f);
    else
        f();
}

/// Calls body(begin, n) for blocks of at most kBlock elements that make up `size`, on all threads;
/// a fresh body comes from make_body() for each range, so that it may keep readers and buffers.
template <class MakeBody>
void for_each_block(std::int64_t size, double cost, const EvalContext& ctx, MakeBody&& make_body) {
    ctx.parallel((size + kBlock - 1) / kBlock, cost * kBlock,
                 [&](std::int64_t first, std::int64_t last) {
                     auto body = make_body();
                     const std::int64_t end = std::min(last * kBlock, size);
                     for (std::int64_t begin = first * kBlock; begin < end; begin += kBlock)
                         body(begin, std::min(kBlock, end - begin));
                 });
}

/// An operand and memory for a result of the same size: the operand's own where it is used for the
/// last time and has the result's dtype.
struct OperandAndResult {
    Array x;
    Array result;
};
inline OperandAndResult operand_and_result(Value value, const EvalContext& ctx) {
    if (ctx.operand(value).dtype() == ctx.result_dtype())
        if (auto taken = ctx.take(value)) return {*taken, *taken};
    return {ctx.operand(value), ctx.result()};
}

}  // namespace kn::cpu
