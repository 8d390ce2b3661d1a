#include <algorithm>
#include <array>
#include <cmath>

#include "cpu/lanes.h"

namespace kn::cpu {

namespace {

/// Far enough outside for every padding to act, near enough for integer conversion.
constexpr double kFar = 1e9;

/// Mirrors x at the borders until it lies between them.
template <class C>
C reflect(C x, C low, C high) {
    const C range = high - low;
    if (range <= 0) return low;
    const C distance = std::abs(x - low);
    const C rest = std::fmod(distance, range);
    const bool even = std::fmod(std::floor(distance / range), C(2)) == 0;
    return even ? low + rest : high - rest;
}

/// Up to 4 source positions along one axis, with weights; position -1: nothing there.
template <class C>
struct AxisTaps {
    std::array<std::int64_t, 4> position;
    std::array<C, 4> weight;
    int count;
};

template <class C>
class Sampler {
  public:
    explicit Sampler(const op::GridSample& op) : op_(op) {}

    AxisTaps<C> taps(C normalized, std::int64_t size) const {
        const C low = op_.align_corners ? C(0) : C(-0.5);
        const C high = static_cast<C>(size) - 1 - low;
        C x = coordinate(normalized, size);
        if (op_.mode == ResizeMode::Nearest) x = std::rint(x);
        // Border is applied to each element read: clamping x would move the cubic's weights.
        if ((x < low || x > high) && op_.padding == GridPadding::Reflection)
            x = reflect(x, low, high);
        const C floor = std::floor(x);
        const auto base = static_cast<std::int64_t>(floor);
        const C ratio = x - floor;
        AxisTaps<C> result{};
        switch (op_.mode) {
            case ResizeMode::Nearest:
                result = {{static_cast<std::int64_t>(std::rint(x))}, {C(1)}, 1};
                break;
            case ResizeMode::Linear: result = {{base, base + 1}, {1 - ratio, ratio}, 2}; break;
            case ResizeMode::Cubic:
                result = {{base - 1, base, base + 1, base + 2},
                          {cubic(1 + ratio), cubic(ratio), cubic(1 - ratio), cubic(2 - ratio)},
                          4};
                break;
        }
        for (int t = 0; t < result.count; ++t)
            result.position[t] = source(result.position[t], low, high, size);
        return result;
    }

  private:
    C coordinate(C normalized, std::int64_t size) const {
        const auto length = static_cast<C>(size);
        const C x = op_.align_corners ? (normalized + 1) / 2 * (length - 1)
                                      : ((normalized + 1) * length - 1) / 2;
        // NaN counts as far outside too.
        if (!(std::abs(x) < static_cast<C>(kFar))) return static_cast<C>(x > 0 ? kFar : -kFar);
        return x;
    }

    /// The element that stands for position `at`, -1 for none.
    std::int64_t source(std::int64_t at, C low, C high, std::int64_t size) const {
        if (at >= 0 && at < size) return at;
        if (op_.padding == GridPadding::Zeros) return -1;
        if (op_.padding == GridPadding::Reflection)
            at = static_cast<std::int64_t>(reflect(static_cast<C>(at), low, high));
        return std::clamp<std::int64_t>(at, 0, size - 1);
    }

    /// Keys' cubic with a = -0.75 at distance x >= 0.
    static C cubic(C x) {
        constexpr C a = C(-0.75);
        if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
    }

    const op::GridSample& op_;
};

/// All elements that one grid point reads, in one channel: offset and weight.
template <class C>
void combine_taps(const std::vector<AxisTaps<C>>& axes, const Ints& sizes,
                  std::vector<std::pair<std::int64_t, C>>& out) {
    out.assign(1, {0, C(1)});
    std::vector<std::pair<std::int64_t, C>> next;
    for (std::size_t a = 0; a < axes.size(); ++a) {
        next.clear();
        for (const auto& [offset, weight] : out)
            for (int t = 0; t < axes[a].count; ++t)
                if (axes[a].position[t] >= 0)
                    next.emplace_back(offset * sizes[a] + axes[a].position[t],
                                      weight * axes[a].weight[t]);
        out.swap(next);
    }
}

}  // namespace

Arrays eval(const op::GridSample& op, EvalContext& ctx) {
    const Array x = ctx.contiguous(op.x);
    const Array grid = ctx.contiguous(op.grid);
    Array result = ctx.result();
    if (result.size() == 0) return {result};
    const Ints sizes(x.shape().begin() + 2, x.shape().end());
    const std::size_t dims = sizes.size();
    const std::int64_t channels = x.dim(1);
    const std::int64_t plane = product(sizes, 0, dims);
    if (plane == 0) ctx.fail("x " + Shape::of(x.shape()).to_string() + " has nothing to sample");
    const std::int64_t points = grid.size() / grid.dim(0) / static_cast<std::int64_t>(dims);

    dispatch_float(x.dtype(), [&]<class T>() {
        using C = Compute<T>;
        const T* coordinates = grid.data<T>();
        const T* in = x.data<T>();
        T* out = result.mutable_data<T>();
        const double cost = 30.0 + 5.0 * static_cast<double>(channels);
        ctx.parallel(grid.dim(0) * points, cost, [&](std::int64_t begin, std::int64_t end) {
            const Sampler<C> sampler(op);
            std::vector<AxisTaps<C>> axes(dims);
            std::vector<std::pair<std::int64_t, C>> taps;
            for (std::int64_t p = begin; p < end; ++p) {
                // The grid names the last axis first.
                const T* point = coordinates + p * static_cast<std::int64_t>(dims);
                for (std::size_t a = 0; a < dims; ++a)
                    axes[a] = sampler.taps(widen(point[dims - 1 - a]), sizes[a]);
                combine_taps(axes, sizes, taps);
                const std::int64_t n = p / points;
                for (std::int64_t c = n * channels; c < (n + 1) * channels; ++c) {
                    C sum = 0;
                    for (const auto& [offset, weight] : taps)
                        sum += weight * widen(in[c * plane + offset]);
                    out[c * points + p % points] = narrow<T>(sum);
                }
            }
        });
    });
    return {result};
}

}  // namespace kn::cpu
