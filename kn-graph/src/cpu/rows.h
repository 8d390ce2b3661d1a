// Operations that work on rows along some axes: the rows are made contiguous, and the result is
// seen through the same permutation.
#pragma once

#include <algorithm>

#include "cpu/dispatch.h"

#include "cpu/eval.h"
#include "cpu/gemm.h"
#include "cpu/simd.h"
#include "cpu/sums.h"

namespace kn::cpu {

/// Calls row(x, y, n) for each row of the operand along `axes` (sorted), with T float or double; y
/// may be x. The result has `value`'s dtype and shape. `cost`: nanoseconds for one element.
template <class MakeRow>
Array map_rows(Value value, const Ints& axes, double cost, const EvalContext& ctx, MakeRow&& row) {
    Ints perm;
    Ints back(ctx.operand(value).rank());
    for (std::size_t a = 0; a < back.size(); ++a)
        if (std::find(axes.begin(), axes.end(), static_cast<std::int64_t>(a)) == axes.end())
            perm.push_back(static_cast<std::int64_t>(a));
    perm.insert(perm.end(), axes.begin(), axes.end());
    for (std::size_t a = 0; a < perm.size(); ++a)
        back[static_cast<std::size_t>(perm[a])] = static_cast<std::int64_t>(a);

    const DType dtype = ctx.operand(value).dtype();
    const bool in_place = std::is_sorted(perm.begin(), perm.end()) && !is_half(dtype);
    Array x;
    if (auto taken = in_place ? ctx.take(value) : std::nullopt) {
        x = std::move(*taken);
    } else {
        x = widened(ctx.operand(value).permuted(perm), ctx);
        if (!x.is_contiguous()) x = copy(x, ctx);
    }
    Array y = x.is_exclusive() ? x : ctx.allocate(x.dtype(), x.shape());
    std::int64_t n = 1;
    for (std::size_t a = perm.size() - axes.size(); a < perm.size(); ++a) n *= x.dim(a);
    if (x.size() > 0)
        dispatch_float(x.dtype(), [&]<class T>() {
            if constexpr (!is_half_type<T>) {
                const T* from = x.data<T>();
                T* to = y.mutable_data<T>();
                ctx.parallel(x.size() / n, cost * static_cast<double>(n) + 10,
                             [&](std::int64_t begin, std::int64_t end) {
                                 simd([&] {
                                     for (std::int64_t i = begin; i < end; ++i)
                                         row(from + i * n, to + i * n, n);
                                 });
                             });
            }
        });
    return narrowed(y, dtype, ctx).permuted(back);
}

}  // namespace kn::cpu
