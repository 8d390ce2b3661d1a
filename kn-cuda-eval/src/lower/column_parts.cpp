#include "lower/column_parts.h"

#include <algorithm>
#include <numeric>

#include <fmt/core.h>

#include "lower/product_epilogue.h"
#include "lower/row_parts_plan.h"
#include "planner/ceil_div.h"

namespace kn::cuda {

namespace {

/// The stored value whose elements, all of them, are those of `x`; nothing if there is none.
std::optional<Value> source_of(const Placement& placement, Value x) {
    const Graph& graph = placement.graph();
    while (!placement.is_stored(x)) {
        const Operation& operation = graph[x].operation;
        const Value inner = inputs_of(operation).at(0);
        const bool widens = is_half(graph.dtype(inner)) && graph.dtype(x) == DType::F32;
        if (!is_any_of<op::Reshape, op::Permute>(operation) &&
            !(std::holds_alternative<op::Cast>(operation) && widens))
            return std::nullopt;
        x = inner;
    }
    return x;
}

/// A matrix whose columns are neighbours, or a Concat of some: each with its first column.
std::vector<std::pair<Value, std::int64_t>> matrices_of(const Placement& placement, Value source) {
    const Graph& graph = placement.graph();
    const auto* concat = graph.get_if<op::Concat>(source);
    if (!concat || concat->axis != 1) return {{source, 0}};
    std::vector<std::pair<Value, std::int64_t>> result;
    std::int64_t first = 0;
    for (const Value& input : concat->inputs) {
        result.emplace_back(input, first);
        first += graph.shape(input)[1].value();
    }
    return result;
}

class Digits {
  public:
    explicit Digits(const std::vector<RowDigit>& digits) : digits_(digits) {
        for (std::size_t i = 0; i < digits.size(); ++i)
            if (digits[i].extent > 1) order_.push_back(i);
        std::ranges::stable_sort(order_, {}, [&](std::size_t i) { return digits[i].step; });
    }

    /// Takes the digits that go on where those before end, up to `end` elements; how many elements
    /// they number.
    std::int64_t take(bool along, std::int64_t end,
                      std::vector<ColumnRows::Digit>* taken = nullptr) {
        std::int64_t count = 1;
        for (; next_ < order_.size(); ++next_) {
            const RowDigit& digit = digits_[order_[next_]];
            if (digit.along != along || digit.step != reached_ || reached_ * digit.extent > end)
                break;
            reached_ *= digit.extent;
            count *= digit.extent;
            if (taken) taken->insert(taken->begin(), {order_[next_], digit.extent});
        }
        return count;
    }
    std::int64_t reached() const { return reached_; }

  private:
    const std::vector<RowDigit>& digits_;
    std::vector<std::size_t> order_;  // innermost first
    std::size_t next_ = 0;
    std::int64_t reached_ = 1;
};

/// Of a row: down an image, and across a group.
Ints counts_of(const ColumnRows& rows, const GivenParts& given) {
    return {rows.image_rows / given.parts.rows, rows.group_columns / given.parts.columns};
}

/// The place of a row's statistics with this number; has the loop go on where they are of columns
/// that came with another matrix.
Index place_of(Code& code, IndexMath& math, const ColumnRows& rows, const GivenParts& given,
               bool alone, const std::string& number, const Index& positions) {
    const auto join = [&](const std::vector<ColumnRows::Digit>& digits) {
        Index index;
        Ints extents;
        for (const auto& [which, extent] : digits) {
            index.push_back(positions[which]);
            extents.push_back(extent);
        }
        return digits.empty() ? std::string("0") : math.join(index, extents);
    };
    const Ints counts = counts_of(rows, given);
    const Index place = math.split(number, counts);
    std::string column = math.add(math.mul(join(rows.groups), counts[1]), place[1]);
    if (!alone) {
        const std::int64_t columns = given.count / given.parts.columns;
        const std::string at = code.fresh("at");
        code.line(
            fmt::format("const int {} = {} - {};", at, column, given.first / given.parts.columns));
        code.line(fmt::format("if ({0} < 0 || {0} >= {1}) continue;", at, columns));
        column = math.variable(at, columns);
    }
    return {math.add(math.mul(join(rows.images), counts[0]), place[0]), column, "0"};
}

}  // namespace

std::optional<ColumnRows> column_rows(const Placement& placement, Value x,
                                      const std::vector<RowDigit>& digits) {
    const auto source = source_of(placement, x);
    if (!source) return std::nullopt;
    const TensorRef& y = placement.stored(*source);
    const Plan& plan = placement.plan();
    const std::int64_t elements = checked_size(y.shape),
                       columns = y.shape.size() > 1 ? y.shape[1] : 0;
    if (row_stride_of(plan, y) != columns) return std::nullopt;
    ColumnRows rows;
    rows.source = *source;
    Digits in_order(digits);
    rows.group_columns = in_order.take(true, columns);
    in_order.take(false, columns, &rows.groups);
    if (in_order.reached() != columns) return std::nullopt;
    rows.image_rows = in_order.take(true, elements);
    in_order.take(false, elements, &rows.images);
    if (in_order.reached() != elements) return std::nullopt;
    return rows;
}

std::vector<GivenParts> given_parts(const Placement& placement, const ColumnRows& rows) {
    std::vector<GivenParts> result;
    for (const auto& [matrix, first] : matrices_of(placement, rows.source)) {
        const auto parts = placement.parts(matrix);
        if (!parts || parts->rows == 1 || rows.image_rows % parts->rows != 0 ||
            rows.group_columns % parts->columns != 0 || first % parts->columns != 0)
            return {};
        result.push_back({*parts, first, placement.graph().shape(matrix)[1].value()});
    }
    return result;
}

std::int64_t most_given(const ColumnRows& rows, const std::vector<GivenParts>& given) {
    std::int64_t most = 0;
    for (const GivenParts& each : given) most = std::max(most, checked_size(counts_of(rows, each)));
    return most;
}

void join_given(Code& code, Emitter& emitter, const ColumnRows& rows,
                const std::vector<GivenParts>& given, const std::function<Index()>& positions,
                int width) {
    const std::int64_t elements = rows.image_rows * rows.group_columns;
    for (const bool means : {true, false}) {
        const char* number = means ? "mean" : "squares";
        for (const GivenParts& each : given) {
            const std::int64_t items = checked_size(counts_of(rows, each));
            const std::int64_t trips = ceil_div(items, width);
            code.open(fmt::format("{} for (int n = 0; n < {}; ++n)", unroll_of(trips), trips));
            emitter.push_scope();
            code.line(fmt::format("const int item = n * {0} + thread % {0};", width));
            if (items % width != 0) code.line(fmt::format("if (item >= {}) break;", items));
            Index place = place_of(code, emitter.math(), rows, each, given.size() == 1,
                                   emitter.math().variable("item", items), positions());
            const std::string mean = emitter.load(each.parts.tensor, place, "statistics");
            const std::int64_t count = each.parts.rows * each.parts.columns;
            if (means) {
                code.line(
                    fmt::format("total.mean += {} * ({}.0f / {}.0f);", mean, count, elements));
            } else {
                place[2] = "1";
                const std::string squares = emitter.load(each.parts.tensor, place, "statistics");
                code.line(fmt::format(
                    "total.squares += {0} + ({1} - total.mean) * ({1} - total.mean) * {2}.0f;",
                    squares, mean, count));
            }
            emitter.pop_scope();
            code.close();
        }
        if (width > 1)
            code.line(
                fmt::format("KN_UNROLL for (int mask = {0}; mask > 0; mask /= 2) total.{1} += "
                            "kn_shuffle_any(total.{1}, mask);",
                            width / 2, number));
    }
}

bool may_have_statistics(const Plan& plan, const RowAnalysis& rows) {
    constexpr std::int64_t shortest = 1024, most_rows_per_sm = 4;
    std::int64_t count = 1;
    for (const RowAnalysis::Axis& axis : rows.parallel) count *= axis.extent;
    return rows.longest >= shortest && count <= most_rows_per_sm * plan.device.sm_count;
}

void want_column_parts(Placement& placement, const std::vector<Group>& groups) {
    for (const Group& group : groups) {
        if (group.kind != Group::Kind::Rows) continue;
        const RowAnalysis rows =
            analyse_rows(placement.graph(), group.outputs.at(0), [&](Value value) {
                return placement.is_stored(value) && std::ranges::count(group.outputs, value) == 0;
            });
        RowPartsPlan plan(placement, group, rows);
        if (!group.in_parts && !may_have_statistics(placement.plan(), rows)) continue;
        if (plan.plan(true)) continue;
        for (const ColumnRows& wanted : plan.column_rows()) {
            if (wanted.image_rows == 1) continue;  // a row kernel takes them as fast
            const auto matrices = matrices_of(placement, wanted.source);
            std::int64_t columns = wanted.group_columns;
            for (const auto& [matrix, first] : matrices) columns = std::gcd(columns, first);
            for (const auto& [matrix, first] : matrices)
                placement.want_parts(matrix, {wanted.image_rows, columns});
        }
    }
}

}  // namespace kn::cuda
