#include "cpu/elementwise.h"
#include "cpu/gemm.h"
#include "ir/convert.h"

namespace kn::cpu {

namespace {

constexpr double kCost = 0.7;

template <class T>
void select(const Array& condition, const Array& a, const Array& b, T* out,
            const EvalContext& ctx) {
    for_each_block(condition.size(), kCost, ctx, [&] {
        return [out, read_condition = BlockReader<bool>(condition), read_a = BlockReader<T>(a),
                read_b = BlockReader<T>(b), in = std::array<bool, kBlock>(),
                in_a = std::array<T, kBlock>(),
                in_b = std::array<T, kBlock>()](std::int64_t begin, std::int64_t n) mutable {
            const bool* c = read_condition.read(begin, n, in.data());
            const T* x = read_a.read(begin, n, in_a.data());
            const T* y = read_b.read(begin, n, in_b.data());
            T* to = out + begin;
            simd([=] {
                for (std::int64_t i = 0; i < n; ++i) to[i] = c[i] ? x[i] : y[i];
            });
        };
    });
}

template <class To, class From>
void convert_loop(const From* x, To* out, std::int64_t n) {
    run_loop<From>([=] {
        for (std::int64_t i = 0; i < n; ++i) {
            if constexpr (is_half_type<To> && std::is_same_v<From, float>)
                out[i] = narrow<To>(x[i]);
            else
                out[i] = ::kn::detail::convert<To>(x[i]);
        }
    });
}

template <class From, class To>
void cast(const Array& x, To* out, const EvalContext& ctx) {
    for_each_block(x.size(), kCost, ctx, [&] {
        return [out, reader = BlockReader<From>(x), in = std::array<Compute<From>, kBlock>()](
                   std::int64_t begin, std::int64_t n) mutable {
            convert_loop(reader.read(begin, n, in.data()), out + begin, n);
        };
    });
}

Array converted(const Array& x, DType dtype, const EvalContext& ctx) {
    Array result = ctx.allocate(dtype, x.shape());
    dispatch(x.dtype(), [&]<class From>() {
        dispatch(dtype, [&]<class To>() {
            if constexpr (!std::is_same_v<From, To>) cast<From>(x, result.mutable_data<To>(), ctx);
        });
    });
    return result;
}

}  // namespace

Array widened(const Array& x, const EvalContext& ctx) {
    return is_half(x.dtype()) ? converted(x, DType::F32, ctx) : x;
}

Array narrowed(const Array& x, DType dtype, const EvalContext& ctx) {
    return x.dtype() == dtype ? x : converted(x, dtype, ctx);
}

Arrays eval(const op::Select& op, EvalContext& ctx) {
    const Array& condition = ctx.operand(op.condition);
    const Array& a = ctx.operand(op.a);
    const Array& b = ctx.operand(op.b);
    if (condition.shape() != a.shape() || condition.shape() != b.shape())
        ctx.fail("operands of shapes " + Shape::of(condition.shape()).to_string() + ", " +
                 Shape::of(a.shape()).to_string() + " and " + Shape::of(b.shape()).to_string());
    Array result = ctx.result();
    dispatch_size(a.dtype(), [&]<class T>() {
        select(condition, a.bit_cast(dtype_of<T>()), b.bit_cast(dtype_of<T>()),
               reinterpret_cast<T*>(result.mutable_bytes()), ctx);
    });
    return {result};
}

Arrays eval(const op::Cast& op, EvalContext& ctx) {
    const Array& x = ctx.operand(op.x);
    if (x.dtype() == op.dtype) return {x};
    return {converted(x, op.dtype, ctx)};
}

}  // namespace kn::cpu
