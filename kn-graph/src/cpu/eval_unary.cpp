#include "cpu/elementwise.h"
#include "cpu/scalar_math.h"

namespace kn::cpu {

namespace scalar {
namespace {

// One struct a row of the table: its expression and its columns.
#define X(name, text, accepted, given, expression)            \
    struct name##Row {                                        \
        static constexpr Accepts accepts = Accepts::accepted; \
        static constexpr Gives gives = Gives::given;          \
        template <class T>                                    \
        static auto apply([[maybe_unused]] T x) {             \
            return expression;                                \
        }                                                     \
    };
KN_UNARY_OPS(X)
#undef X

}  // namespace
}  // namespace scalar

namespace {

// Rough nanoseconds for one element, to decide on threads.
constexpr double kCost = 0.8;

template <class Row, class C, class R>
void kernel(const C* x, R* out, std::int64_t n) {
    run_loop<C>([=] {
#pragma GCC ivdep
        for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<R>(Row::template apply<C>(x[i]));
    });
}

template <class T, class R>
void run(const Array& x, Array& result, void (*loop)(const Compute<T>*, Compute<R>*, std::int64_t),
         const EvalContext& ctx) {
    R* out = result.mutable_data<R>();
    for_each_block(x.size(), kCost, ctx, [&] {
        return [loop, reader = BlockReader<T>(x), writer = BlockWriter<R>(out),
                in = std::array<Compute<T>, kBlock>(), buffer = std::array<Compute<R>, kBlock>()](
                   std::int64_t begin, std::int64_t n) mutable {
            Compute<R>* to = writer.target(begin, buffer.data());
            loop(reader.read(begin, n, in.data()), to, n);
            writer.write(begin, n, to);
        };
    });
}

template <class Row>
void dispatch_row(const Array& x, Array& result, const EvalContext& ctx) {
    dispatch(x.dtype(), [&]<class T>() {
        using R = std::conditional_t<Row::gives == Gives::Bool, bool, T>;
        if constexpr (has_kernel<Compute<T>>(Row::accepts))
            run<T, R>(x, result, kernel<Row, Compute<T>, Compute<R>>, ctx);
        else
            ctx.fail("no " + std::string(name_of(x.dtype())));
    });
}

}  // namespace

Arrays eval(const op::Unary& op, EvalContext& ctx) {
    auto [x, result] = operand_and_result(op.x, ctx);
    switch (op.op) {
#define X(name, ...) \
    case UnaryOp::name: dispatch_row<scalar::name##Row>(x, result, ctx); break;
        KN_UNARY_OPS(X)
#undef X
    }
    return {std::move(result)};
}

}  // namespace kn::cpu
