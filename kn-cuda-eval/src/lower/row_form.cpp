#include "lower/row_form.h"

#include <algorithm>

#include "planner/ceil_div.h"

namespace kn::cuda {

namespace {

constexpr int kMostInRegisters = 16;  // elements a thread

int power_of_two(std::int64_t n, int least, int most) {
    int result = least;
    while (result < most && result < n) result *= 2;
    return result;
}

/// The largest power of two up to `most` that divides `length`.
int vector_of(std::int64_t length, int most) {
    int vector = 1;
    while (vector < most && length % (2 * vector) == 0) vector *= 2;
    return vector;
}

/// Rows of `length` elements, read by vectors of which `run` elements are neighbours.
RowForm form_of(std::int64_t length, std::int64_t run, int vector) {
    RowForm form;
    form.vector = vector;
    // (The vector is the result's; the reduced rows may have another length.)
    const bool wide = vector >= 4 && length % vector == 0;
    if (length <= 1024) {
        form.kind = RowForm::Kind::Warp;
        form.threads = power_of_two(ceil_div(length, 4), 1, 32);
    }
    if (length > 1024 || ceil_div(length, form.threads) > kMostInRegisters) {
        form.kind = RowForm::Kind::Block;
        form.threads = power_of_two(ceil_div(length, 8), 64, 1024);
    }
    const std::int64_t own = ceil_div(length, form.threads);
    if (own > kMostInRegisters) return form;
    form.chunks = wide;
    form.elements = static_cast<int>(own);
    if (wide) {
        int chunk = power_of_two(own, 4, 2 * kMostInRegisters);
        while (chunk > vector && (length % chunk != 0 || run % chunk != 0)) chunk /= 2;
        form.chunks = std::int64_t{chunk} * form.threads >= length;
        if (form.chunks) form.elements = chunk;
    }
    return form;
}

}  // namespace

RowForm form_along_rows(const RowAnalysis& rows, const TensorRef& result) {
    const auto along = sorted_by_memory(result, rows.along);
    if (along.empty()) return form_of(rows.longest, rows.longest, vector_of(rows.longest, 4));
    // Neighbours along a row, as far as vectors of 16 bytes go.
    const std::int64_t run = along.back().extent;
    const auto most = static_cast<int>(16 / std::max<std::size_t>(size_of(result.dtype), 2));
    return form_of(rows.longest, run, vector_of(run, most));
}

RowForm form_across_rows(std::int64_t count, std::int64_t length, int sm_count) {
    RowForm form;
    form.kind = RowForm::Kind::Columns;
    // Enough threads in all, and enough work for each.
    form.threads = 1;
    while (form.threads < 32 && form.threads * 4 < length &&
           count * form.threads < std::int64_t{sm_count} * 1024)
        form.threads *= 2;
    if (form.threads == 1) form.threads = length > 32 ? 4 : 1;
    return form;
}

std::vector<RowAnalysis::Axis> sorted_by_memory(const TensorRef& tensor,
                                                std::vector<RowAnalysis::Axis> axes) {
    const auto step = [&](const RowAnalysis::Axis& axis) {
        return std::abs(tensor.strides[axis.root]) * axis.divisor;
    };
    std::stable_sort(axes.begin(), axes.end(),
                     [&](const auto& a, const auto& b) { return step(a) > step(b); });
    return axes;
}

Ints extents_of(const std::vector<RowAnalysis::Axis>& axes) {
    Ints result;
    for (const RowAnalysis::Axis& axis : axes) result.push_back(axis.extent);
    return result;
}

}  // namespace kn::cuda
