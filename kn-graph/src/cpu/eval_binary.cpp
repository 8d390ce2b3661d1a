#include "cpu/elementwise.h"
#include "cpu/scalar_math.h"

namespace kn::cpu {

namespace scalar {
namespace {

#define X(name, text, accepted, given, expression)                      \
    struct name##Row {                                                  \
        static constexpr Accepts accepts = Accepts::accepted;           \
        static constexpr Gives gives = Gives::given;                    \
        template <class T>                                              \
        static auto apply([[maybe_unused]] T a, [[maybe_unused]] T b) { \
            return expression;                                          \
        }                                                               \
    };
KN_BINARY_OPS(X)
#undef X

}  // namespace
}  // namespace scalar

namespace {

constexpr double kCost = 0.5;

template <class Row, class C, class R>
void kernel(const C* a, const C* b, R* out, std::int64_t n) {
    run_loop<C>([=] {
#pragma GCC ivdep
        for (std::int64_t i = 0; i < n; ++i)
            out[i] = static_cast<R>(Row::template apply<C>(a[i], b[i]));
    });
}

template <class T, class R>
void run(const Array& a, const Array& b, Array& result,
         void (*loop)(const Compute<T>*, const Compute<T>*, Compute<R>*, std::int64_t),
         const EvalContext& ctx) {
    R* out = result.mutable_data<R>();
    for_each_block(result.size(), kCost, ctx, [&] {
        return [loop, read_a = BlockReader<T>(a), read_b = BlockReader<T>(b),
                writer = BlockWriter<R>(out), in_a = std::array<Compute<T>, kBlock>(),
                in_b = std::array<Compute<T>, kBlock>(), buffer = std::array<Compute<R>, kBlock>()](
                   std::int64_t begin, std::int64_t n) mutable {
            Compute<R>* to = writer.target(begin, buffer.data());
            loop(read_a.read(begin, n, in_a.data()), read_b.read(begin, n, in_b.data()), to, n);
            writer.write(begin, n, to);
        };
    });
}

template <class Row>
void dispatch_row(const Array& a, const Array& b, Array& result, const EvalContext& ctx) {
    dispatch(a.dtype(), [&]<class T>() {
        using R = std::conditional_t<Row::gives == Gives::Bool, bool, T>;
        if constexpr (has_kernel<Compute<T>>(Row::accepts))
            run<T, R>(a, b, result, kernel<Row, Compute<T>, Compute<R>>, ctx);
        else
            ctx.fail("no " + std::string(name_of(a.dtype())));
    });
}

}  // namespace

Arrays eval(const op::Binary& op, EvalContext& ctx) {
    if (ctx.operand(op.a).shape() != ctx.operand(op.b).shape())
        ctx.fail("operands of shapes " + Shape::of(ctx.operand(op.a).shape()).to_string() +
                 " and " + Shape::of(ctx.operand(op.b).shape()).to_string());
    const Array b = ctx.operand(op.b);
    auto [a, result] = operand_and_result(op.a, ctx);
    switch (op.op) {
#define X(name, ...) \
    case BinaryOp::name: dispatch_row<scalar::name##Row>(a, b, result, ctx); break;
        KN_BINARY_OPS(X)
#undef X
    }
    return {std::move(result)};
}

}  // namespace kn::cpu
