#include <kn/testing/compare.h>

#include <algorithm>
#include <cmath>

#include <fmt/core.h>

namespace kn::testing {

namespace {

std::string coordinates(std::int64_t index, const Ints& shape) {
    Ints at(shape.size());
    for (std::size_t axis = shape.size(); axis-- > 0;) {
        at[axis] = index % shape[axis];
        index /= shape[axis];
    }
    return Shape::of(at).to_string();
}

Difference refuse(std::string message) { return {false, INFINITY, INFINITY, std::move(message)}; }

Difference compare_integers(const Tensor& got, const Tensor& expected) {
    const std::size_t bytes = size_of(got.dtype());
    Difference out;
    std::int64_t differing = 0, first = -1;
    double peak = 0;
    for (std::int64_t i = 0; i < got.size(); i++) {
        peak = std::max(peak, std::abs(expected.at(i)));
        const auto at = static_cast<std::size_t>(i) * bytes;
        if (std::equal(&got.bytes()[at], &got.bytes()[at] + bytes, &expected.bytes()[at])) continue;
        differing++;
        if (first < 0) first = i;
        out.max_abs = std::max(out.max_abs, std::abs(got.at(i) - expected.at(i)));
    }
    out.max_rel_to_peak = out.max_abs / (peak > 0 ? peak : 1);
    if (differing > 0) {
        out.equal = false;
        out.message = fmt::format("{} of {} elements differ; element {} is {}, expected {}",
                                  differing, got.size(), coordinates(first, got.shape()),
                                  got.int_at(first), expected.int_at(first));
    }
    return out;
}

Difference compare_floats(const Tensor& got, const Tensor& expected, Tolerance tolerance) {
    const Tensor got64 = got.cast(DType::F64), expected64 = expected.cast(DType::F64);
    const auto a = got64.data<double>(), b = expected64.data<double>();
    double peak = 0;
    for (const double x : b)
        if (std::isfinite(x)) peak = std::max(peak, std::abs(x));
    Difference out;
    double worst = -1;  // by how much the worst element goes beyond what is allowed
    std::size_t worst_at = 0, beyond = 0;
    for (std::size_t i = 0; i < a.size(); i++) {
        if ((std::isnan(a[i]) && std::isnan(b[i])) || a[i] == b[i]) continue;
        const bool comparable = std::isfinite(a[i]) && std::isfinite(b[i]);
        const double difference = comparable ? std::abs(a[i] - b[i]) : INFINITY;
        if (comparable) out.max_abs = std::max(out.max_abs, difference);
        const double excess =
            difference - (tolerance.rtol * std::abs(b[i]) + tolerance.atol_of_peak * peak);
        if (comparable && excess <= 0) continue;
        beyond++;
        if (worst < 0 || excess > worst) {
            worst = comparable ? excess : INFINITY;
            worst_at = i;
        }
    }
    out.max_rel_to_peak = out.max_abs / (peak > 0 ? peak : 1);
    if (beyond > 0) {
        out.equal = false;
        out.message = fmt::format(
            "{} of {} elements differ; element {} is {:.9g}, expected {:.9g}, allowed {:.3g}",
            beyond, a.size(), coordinates(static_cast<std::int64_t>(worst_at), got.shape()),
            a[worst_at], b[worst_at],
            tolerance.rtol * std::abs(b[worst_at]) + tolerance.atol_of_peak * peak);
    }
    return out;
}

}  // namespace

Tolerance default_tolerance(DType dtype) {
    switch (dtype) {
        case DType::F32:
        case DType::F64: return {1e-3, 1e-4};
        case DType::F16: return {1e-2, 5e-3};
        case DType::BF16: return {3e-2, 2e-2};
        default: return {};
    }
}

Tolerance default_tolerance(Precision precision) {
    switch (precision) {
        case Precision::F32:
        case Precision::F64: return default_tolerance(DType::F32);
        case Precision::TF32:
        case Precision::F16: return default_tolerance(DType::F16);
        case Precision::BF16: return default_tolerance(DType::BF16);
    }
    return {};
}

Tolerance looser(Tolerance a, Tolerance b) {
    return {std::max(a.rtol, b.rtol), std::max(a.atol_of_peak, b.atol_of_peak)};
}

Difference compare(const Tensor& got, const Tensor& expected, Tolerance tolerance, bool any_float) {
    const bool floats = is_float(got.dtype()) && is_float(expected.dtype());
    if (got.dtype() != expected.dtype() && !(any_float && floats))
        return refuse(fmt::format("dtype is {}, expected {}", name_of(got.dtype()),
                                  name_of(expected.dtype())));
    if (got.shape() != expected.shape())
        return refuse(fmt::format("shape is {}, expected {}", Shape::of(got.shape()).to_string(),
                                  Shape::of(expected.shape()).to_string()));
    return floats ? compare_floats(got, expected, tolerance) : compare_integers(got, expected);
}

}  // namespace kn::testing
