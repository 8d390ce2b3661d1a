#include "cpu/elementwise.h"
#include "cpu/scalar_math.h"
#include "cpu/sums.h"

namespace kn::cpu {

namespace {

constexpr double kCost = 0.5;
constexpr std::int64_t kTile = 128;  // results that are computed side by side
constexpr int kSteps = 32;  // additions in the compute type before a sum moves on to double

// How a reduction works on values of compute type C: `Part` takes up to some hundred elements,
// `Total` takes parts.
template <class C>
struct SumOf {
    using Part = C;
    using Total = std::conditional_t<std::is_floating_point_v<C>, double, C>;
    static constexpr C start() { return C{0}; }
    static Part join(Part a, C b) { return scalar::kn_add(a, b); }
    static Total add(Total a, Part b) { return scalar::kn_add(a, static_cast<Total>(b)); }
    static C finish(Total total, std::int64_t) { return static_cast<C>(total); }
};

template <class C>
struct MeanOf : SumOf<C> {
    static C finish(double total, std::int64_t count) {
        return static_cast<C>(total / static_cast<double>(count));
    }
};

template <class C>
struct ProductOf {
    using Part = std::conditional_t<std::is_floating_point_v<C>, double, C>;
    using Total = Part;
    static constexpr Part start() { return Part{1}; }
    static Part join(Part a, Part b) { return scalar::kn_mul(a, b); }
    static Total add(Total a, Part b) { return scalar::kn_mul(a, b); }
    static C finish(Total total, std::int64_t) { return static_cast<C>(total); }
};

template <class C>
struct MaxOf {
    using Part = C;
    using Total = C;
    static constexpr C start() {
        if constexpr (std::is_floating_point_v<C>)
            return -std::numeric_limits<C>::infinity();
        else
            return std::numeric_limits<C>::lowest();
    }
    static C join(C a, C b) { return scalar::kn_max(a, b); }
    static C add(C a, C b) { return scalar::kn_max(a, b); }
    static C finish(C total, std::int64_t) { return total; }
};

template <class C>
struct MinOf {
    using Part = C;
    using Total = C;
    static constexpr C start() {
        if constexpr (std::is_floating_point_v<C>)
            return std::numeric_limits<C>::infinity();
        else
            return std::numeric_limits<C>::max();
    }
    static C join(C a, C b) { return scalar::kn_min(a, b); }
    static C add(C a, C b) { return scalar::kn_min(a, b); }
    static C finish(C total, std::int64_t) { return total; }
};

struct Plan {
    Walk kept;
    Walk reduced;
    std::int64_t results;
    std::int64_t count;  // elements of each
};

/// One result after the other, each over runs along the last reduced axis.
template <class Op, class T>
void reduce_runs(const T* data, const Plan& plan, T* out, std::int64_t begin, std::int64_t end) {
    const std::int64_t length = plan.reduced.shape.back();
    const std::int64_t stride = plan.reduced.strides.back();
    const std::int64_t runs = plan.count / length;
    Cursor kept(plan.kept, plan.kept.shape.size(), begin);
    Cursor outer(plan.reduced, plan.reduced.shape.size() - 1,
                 0);  // back at its start after all runs
    for (std::int64_t o = begin; o < end; ++o, kept.next()) {
        auto total = static_cast<typename Op::Total>(Op::start());
        for (std::int64_t run = 0; run < runs; ++run, outer.next()) {
            const T* x = data + kept.offset() + outer.offset();
            for (std::int64_t first = 0; first < length; first += kPart) {
                const std::int64_t n = std::min(kPart, length - first);
                using Part = typename Op::Part;
                Part lanes[kLanes];
                for (int l = 0; l < kLanes; ++l) lanes[l] = Op::start();
                const T* p = x + first * stride;
                std::int64_t i = 0;
                if (stride == 1) {
                    for (; i + kLanes <= n; i += kLanes)
                        for (int l = 0; l < kLanes; ++l)
                            lanes[l] = Op::join(lanes[l], widen(p[i + l]));
                }
                for (; i < n; ++i)
                    lanes[i % kLanes] = Op::join(lanes[i % kLanes], widen(p[i * stride]));
                for (int width = kLanes / 2; width > 0; width /= 2)
                    for (int l = 0; l < width; ++l)
                        lanes[l] = static_cast<Part>(
                            Op::add(static_cast<typename Op::Total>(lanes[l]), lanes[l + width]));
                total = Op::add(total, lanes[0]);
            }
        }
        out[o] = narrow<T>(Op::finish(total, plan.count));
    }
}

/// kTile results side by side along the last kept axis, in units of tiles.
template <class Op, class T>
void reduce_tiles(const T* data, const Plan& plan, T* out, std::int64_t begin, std::int64_t end) {
    const std::int64_t length = plan.kept.shape.back();
    const std::int64_t stride = plan.kept.strides.back();
    const std::int64_t tiles = (length + kTile - 1) / kTile;
    Cursor reduced(plan.reduced, plan.reduced.shape.size(), 0);
    typename Op::Part part[kTile];
    typename Op::Total total[kTile];
    for (std::int64_t tile = begin; tile < end; ++tile) {
        const std::int64_t row = tile / tiles;
        const std::int64_t first = tile % tiles * kTile;
        const std::int64_t n = std::min(kTile, length - first);
        const T* base =
            data + Cursor(plan.kept, plan.kept.shape.size() - 1, row).offset() + first * stride;
        for (std::int64_t i = 0; i < n; ++i) {
            part[i] = Op::start();
            total[i] = static_cast<typename Op::Total>(Op::start());
        }
        for (std::int64_t r = 0; r < plan.count; ++r, reduced.next()) {
            const T* x = base + reduced.offset();
            if (stride == 1)
                for (std::int64_t i = 0; i < n; ++i) part[i] = Op::join(part[i], widen(x[i]));
            else
                for (std::int64_t i = 0; i < n; ++i)
                    part[i] = Op::join(part[i], widen(x[i * stride]));
            if (r % kSteps != kSteps - 1 && r != plan.count - 1) continue;
            for (std::int64_t i = 0; i < n; ++i) {
                total[i] = Op::add(total[i], part[i]);
                part[i] = Op::start();
            }
        }
        for (std::int64_t i = 0; i < n; ++i)
            out[row * length + first + i] = narrow<T>(Op::finish(total[i], plan.count));
    }
}

template <class Op, class T>
void reduce(const T* data, const Plan& plan, T* out, const EvalContext& ctx) {
    const double cost = kCost * static_cast<double>(plan.count) + 3;
    const bool long_runs = plan.reduced.strides.back() == 1 && plan.reduced.shape.back() >= 32;
    if (plan.kept.shape.back() < 8 || long_runs) {
        ctx.parallel(plan.results, cost, [&](std::int64_t begin, std::int64_t end) {
            run_loop<T>([&] { reduce_runs<Op, T>(data, plan, out, begin, end); });
        });
        return;
    }
    const std::int64_t length = plan.kept.shape.back();
    const std::int64_t tiles = plan.results / length * ((length + kTile - 1) / kTile);
    ctx.parallel(tiles, cost * static_cast<double>(std::min(kTile, length)),
                 [&](std::int64_t begin, std::int64_t end) {
                     run_loop<T>([&] { reduce_tiles<Op, T>(data, plan, out, begin, end); });
                 });
}

Plan make_plan(const Array& x, const Ints& axes, std::int64_t results) {
    Ints shapes[2];
    Ints strides[2];
    std::int64_t count = 1;
    for (std::size_t a = 0; a < x.rank(); ++a) {
        const bool reduced =
            std::find(axes.begin(), axes.end(), static_cast<std::int64_t>(a)) != axes.end();
        shapes[reduced].push_back(x.dim(a));
        strides[reduced].push_back(x.stride(a));
        if (reduced) count *= x.dim(a);
    }
    return {collapse(shapes[0], strides[0]), collapse(shapes[1], strides[1]), results, count};
}

template <template <class> class Op>
void dispatch_reduce(const Array& x, const Plan& plan, Array& result, const EvalContext& ctx) {
    dispatch(x.dtype(), [&]<class T>() {
        constexpr bool ordered =
            std::is_same_v<Op<float>, MaxOf<float>> || std::is_same_v<Op<float>, MinOf<float>>;
        if constexpr (std::is_same_v<T, bool> && !ordered) {
            ctx.fail("no bool");
        } else if constexpr (std::is_same_v<Op<float>, MeanOf<float>> &&
                             !std::is_floating_point_v<Compute<T>>) {
            ctx.fail("no mean of integers");
        } else {
            T* out = result.mutable_data<T>();
            if (plan.count == 0)
                std::fill_n(out, plan.results,
                            narrow<T>(Op<Compute<T>>::finish(Op<Compute<T>>::start(), 0)));
            else
                reduce<Op<Compute<T>>>(x.data<T>(), plan, out, ctx);
        }
    });
}

}  // namespace

Arrays eval(const op::Reduce& op, EvalContext& ctx) {
    const Array& x = ctx.operand(op.x);
    Array result = ctx.result();
    if (result.size() == 0) return {result};
    const Plan plan = make_plan(x, op.axes, result.size());
    switch (op.op) {
        case ReduceOp::Sum: dispatch_reduce<SumOf>(x, plan, result, ctx); break;
        case ReduceOp::Mean: dispatch_reduce<MeanOf>(x, plan, result, ctx); break;
        case ReduceOp::Prod: dispatch_reduce<ProductOf>(x, plan, result, ctx); break;
        case ReduceOp::Max: dispatch_reduce<MaxOf>(x, plan, result, ctx); break;
        case ReduceOp::Min: dispatch_reduce<MinOf>(x, plan, result, ctx); break;
    }
    return {result};
}

Arrays eval(const op::ArgReduce& op, EvalContext& ctx) {
    const Array& x = ctx.operand(op.x);
    Array result = ctx.result();
    const auto axis = static_cast<std::size_t>(op.axis);
    const std::int64_t n = x.dim(axis);
    const std::int64_t stride = x.stride(axis);
    if (result.size() == 0) return {result};
    if (n == 0) ctx.fail("the axis is empty");
    const Array starts = x.at(axis, 0);
    const Walk walk = collapse(starts);
    auto* out = result.mutable_data<std::int64_t>();
    dispatch(x.dtype(), [&]<class T>() {
        ctx.parallel(result.size(), static_cast<double>(n),
                     [&](std::int64_t begin, std::int64_t end) {
                         Cursor cursor(walk, walk.shape.size(), begin);
                         for (std::int64_t o = begin; o < end; ++o, cursor.next()) {
                             const T* p = x.data<T>() + cursor.offset();
                             std::int64_t best = 0;
                             auto value = widen(p[0]);
                             for (std::int64_t i = 1; i < n; ++i) {
                                 const auto v = widen(p[i * stride]);
                                 if (op.largest ? v < value : value < v) continue;
                                 if (v == value && !op.last) continue;
                                 if (value != value) continue;  // NaN wins
                                 best = i;
                                 value = v;
                             }
                             out[o] = best;
                         }
                     });
    });
    return {result};
}

}  // namespace kn::cpu
