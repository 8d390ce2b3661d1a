// GridSample as gathers: one for each neighbour of a grid point.
#include "ir/decompose_parts.h"

namespace kn::decomposition {

namespace {

// Farther outside, coordinates count as this far: every padding acts there, and integers still hold
// it.
constexpr double kFar = 1e9;

/// One neighbour along one axis: its position, its weight, and whether it exists.
struct Tap {
    Var position;  // i64, within the axis
    std::optional<Var> weight;
    std::optional<Var> exists;
};

/// The arithmetic along one axis of `size` elements; all values are [N, points].
class AxisSampler {
  public:
    AxisSampler(const op::GridSample& op, Var normalized, const Dim& size)
        : op_(op),
          normalized_(normalized),
          size_(cast(scalar_dim(*normalized.graph, size), normalized.dtype())),
          low_(op.align_corners ? 0 : -0.5),
          high_(size_ - (1 + low_)) {}

    std::vector<Tap> taps() const {
        Var x = op_.align_corners ? (normalized_ + 1) / 2 * (size_ - 1)
                                  : ((normalized_ + 1) * size_ - 1) / 2;
        const Var far = select(less(scalar(0), x), scalar(kFar), scalar(-kFar));
        x = select(less(abs(x), scalar(kFar)), x, far);
        if (op_.mode == ResizeMode::Nearest) x = unary(UnaryOp::Round, x);
        const Var outside = logical_or(less(x, scalar(low_)), less(high_, x));
        if (op_.padding == GridPadding::Reflection) x = select(outside, reflect(x), x);
        if (op_.mode == ResizeMode::Nearest) return {tap(unary(UnaryOp::Round, x), {})};

        const Var base = unary(UnaryOp::Floor, x);
        const Var r = x - base;
        if (op_.mode == ResizeMode::Linear) return {tap(base, 1 - r), tap(base + 1, r)};
        return {tap(base - 1, far_cubic(r + 1)), tap(base, near_cubic(r)),
                tap(base + 1, near_cubic(1 - r)), tap(base + 2, far_cubic(2 - r))};
    }

  private:
    Var scalar(double value) const { return scalar_like(normalized_, value); }
    Var inside(Var x) const { return minimum(maximum(x, scalar(0)), size_ - 1); }

    /// Mirrored at the borders until it lies between them.
    Var reflect(Var x) const {
        const Var range = high_ - low_;
        const Var distance = abs(x - low_);
        const Var rest = binary(BinaryOp::Fmod, distance, range);
        const Var turns = unary(UnaryOp::Floor, distance / range);
        const Var even = equal(binary(BinaryOp::Fmod, turns, scalar(2)), scalar(0));
        return select(less(scalar(0), range), select(even, rest + low_, high_ - rest),
                      scalar(low_));
    }

    Tap tap(Var at, std::optional<Var> weight) const {
        const Var outside = logical_or(less(at, scalar(0)), less(size_ - 1, at));
        std::optional<Var> exists;
        if (op_.padding == GridPadding::Zeros) exists = logical_not(outside);
        if (op_.padding == GridPadding::Reflection)
            at = select(outside, unary(UnaryOp::Trunc, reflect(at)), at);
        return {cast(inside(at), DType::I64), weight, exists};
    }

    /// Keys' cubic with a = -0.75 at distances up to 1, and from 1 to 2.
    static Var near_cubic(Var x) { return (1.25 * x - 2.25) * x * x + 1; }
    static Var far_cubic(Var x) { return ((-0.75 * x + 3.75) * x - 6) * x + 3; }

    const op::GridSample& op_;
    Var normalized_, size_;
    double low_;
    Var high_;
};

std::optional<Var> both(std::optional<Var> a, std::optional<Var> b, Var (*combine)(Var, Var)) {
    if (!a || !b) return a ? a : b;
    return combine(*a, *b);
}

}  // namespace

Vars parts(const op::GridSample& op, Graph& graph) {
    const Var x = widened(graph, op.x);
    const Var grid = widened(graph, op.grid);
    const std::size_t dims = x.rank() - 2;
    const Shape sizes = x.shape().slice(2, x.rank());
    const Shape out = grid.shape().slice(1, grid.rank() - 1);
    const Dim batch = grid.shape()[0];
    const Dim channels = x.shape()[1];
    const auto last = static_cast<std::int64_t>(dims);
    const Var points = reshape(grid, {batch, out.size(), last});

    // All combinations of the axes' neighbours; the grid names the last axis first.
    std::vector<Tap> taps;
    for (std::size_t a = 0; a < dims; ++a) {
        const auto component = static_cast<std::int64_t>(dims - 1 - a);
        const Var normalized = squeeze(slice(points, 2, component, component + 1), {2});
        const std::vector<Tap> along = AxisSampler(op, normalized, sizes[a]).taps();
        if (a == 0) {
            taps = along;
            continue;
        }
        std::vector<Tap> next;
        for (const Tap& outer : taps)
            for (const Tap& inner : along)
                next.push_back(
                    {outer.position * scalar_dim(graph, sizes[a]) + inner.position,
                     both(outer.weight, inner.weight, [](Var p, Var q) { return p * q; }),
                     both(outer.exists, inner.exists,
                          [](Var p, Var q) { return logical_and(p, q); })});
        taps = std::move(next);
    }

    const Var planes = reshape(x, {batch, channels, sizes.size()});
    std::optional<Var> total;
    for (const Tap& tap : taps) {
        const Var index = broadcast_to(unsqueeze(tap.position, {1}), {batch, channels, out.size()});
        Var part = gather_elements(planes, index, 2);
        if (tap.weight) part = part * unsqueeze(*tap.weight, {1});
        if (tap.exists) part = select(unsqueeze(*tap.exists, {1}), part, scalar_like(part, 0));
        total = total ? *total + part : part;
    }
    Shape shape{batch, channels};
    for (const Dim& dim : out) shape.push_back(dim);
    return {cast(reshape(*total, shape), graph.dtype(op.x))};
}

}  // namespace kn::decomposition
