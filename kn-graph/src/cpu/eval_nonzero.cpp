#include "cpu/lanes.h"

namespace kn::cpu {

Arrays eval(const op::NonZero& op, EvalContext& ctx) {
    const Array x = ctx.contiguous(op.x);
    Ints found;
    dispatch(x.dtype(), [&]<class T>() {
        const T* values = x.data<T>();
        for (std::int64_t i = 0; i < x.size(); ++i)
            if (widen(values[i]) != 0) found.push_back(i);
    });
    ctx.bind(op.count, static_cast<std::int64_t>(found.size()));
    Array result = ctx.result();
    auto* out = result.mutable_data<std::int64_t>();
    const auto count = static_cast<std::int64_t>(found.size());
    for (std::int64_t i = 0; i < count; ++i) {
        std::int64_t rest = found[static_cast<std::size_t>(i)];
        for (std::size_t a = x.rank(); a-- > 0; rest /= x.dim(a))
            out[static_cast<std::int64_t>(a) * count + i] = rest % x.dim(a);
    }
    return {result};
}

}  // namespace kn::cpu
