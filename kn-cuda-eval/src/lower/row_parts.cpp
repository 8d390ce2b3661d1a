#include "lower/row_parts.h"

#include <algorithm>

#include <fmt/core.h>

#include "codegen/emit.h"
#include "codegen/kernel_text.h"
#include "lower/row_parts_plan.h"
#include "lower/row_space.h"
#include "lower/row_values.h"
#include "planner/ceil_div.h"

namespace kn::cuda {

namespace {

class RowParts : public RowPartsPlan {
  public:
    using RowPartsPlan::RowPartsPlan;

    void add_steps() {
        Group last = group_;
        for (Part& part : parts_) {
            if (!part.given.empty()) {
                last.reason += ", from statistics that came with what they read";
                continue;
            }
            Group group = group_;
            group.outputs.clear();
            group.anchor = part.value;
            group.reason = fmt::format(
                "{} parts of each of {} rows, which alone would leave most "
                "of the device idle",
                part.space.parts, checked_size(row_extents()));
            make_partial(part);
            add_kernel_step(placement_, group, part_kernel(part));
        }
        add_kernel_step(placement_, last,
                        rows_.along.empty() ? results_of_rows() : results_along_rows());
    }

  private:
    void make_partial(Part& part) {
        Ints shape = graph().shape(part.value).to_ints();
        const Operation& operation = graph()[part.value].operation;
        if (keeps_axes(operation))
            for (const std::int64_t axis : reduced_axes(operation))
                shape[static_cast<std::size_t>(axis)] = 1;
        shape.push_back(part.state.numbers);
        shape.push_back(part.space.parts);
        part.partial = placement_.scratch(part.state.dtype, shape, "parts of rows");
    }

    static Index partial_index(Index kept, int number, const std::string& part) {
        kept.push_back(std::to_string(number));
        kept.push_back(part);
        return kept;
    }

    KernelDraft part_kernel(const Part& part) {
        const RowSpace& space = part.space;
        const Value x = inputs_of(graph()[part.value].operation).at(0);
        const RowState& state = part.state;
        KernelDraft draft;
        Code code;
        Emitter emitter(placement_, code, draft.operands);
        IndexMath& math = emitter.math();
        emitter.computes(group_.outputs);
        RowLoop loop(emitter, code, space);
        loop.declare();
        emitter.set_lanes(space.vector);
        code.line(fmt::format("{} own[{}];", state.name, space.vector));
        code.line(fmt::format("KN_UNROLL for (int j = 0; j < {}; ++j) own[j] = {}::start();",
                              space.vector, state.name));
        Index index = loop.open(emitter.scope());
        if (in_place(part.value)) index = evaluate(math, part.element, positions_of(math, index));
        std::string element = emitter.value(x, index);
        if (const auto* norm = graph().get_if<op::Norm>(part.value))
            if (norm->kind == NormKind::MeanSquare) element = fmt::format("{0} * {0}", element);
        code.line(fmt::format("const {0} share = ({0})1 / ({0})(i + 1);", state.number));
        code.line(fmt::format("KN_UNROLL for (int j = 0; j < {}; ++j) own[j].add({}, share);",
                              space.vector, element));
        loop.close();
        emitter.set_lanes(1);
        join_block(part, code, emitter, loop);
        draft.name = "row_parts";
        finish(draft, code, space.outer_count() * space.parts, space.threads());
        return draft;
    }

    /// The positions of `digits_` in an index of the root.
    Index positions_of(IndexMath& math, const Index& index) const {
        const Ints shape = graph().shape(root_).to_ints();
        Index result;
        for (const RowDigit& digit : digits_) {
            const std::string upper = math.div(index[digit.axis], digit.divisor);
            const bool top = digit.divisor * digit.extent == shape[digit.axis];
            result.push_back(top ? upper : math.mod(upper, digit.extent));
        }
        return result;
    }

    /// The index of the first element of a row of `space.inner`.
    static Index row_index(IndexMath& math, const RowSpace& space, const Index& outer,
                           const std::string& row) {
        Index index(space.rank, "0");
        add_digits(math, index, space.outer, outer);
        std::vector<RowDigit> rows;
        for (const RowDigit& digit : space.inner)
            if (!digit.along) rows.push_back(digit);
        add_digits(math, index, rows, math.split(row, extents_of(rows)));
        return index;
    }

    /// Elements behind the state of one lane of thread row `y`.
    std::string steps_of(const RowSpace& space, const std::string& part,
                         const std::string& y) const {
        if (space.loop_count() % space.span() == 0) return std::to_string(space.steps);
        return fmt::format("kn_steps<{0}>({1} - (({2}) * ({0}){3} + {4}), {5}, {6})", count_type(),
                           space.loop_count(), part, space.span(), y, space.down, space.steps);
    }

    /// Puts together what the threads of a block know, row by row, and stores it.
    void join_block(const Part& part, Code& code, Emitter& emitter, const RowLoop& loop) {
        const RowSpace& space = part.space;
        const RowState& state = part.state;
        IndexMath& math = emitter.math();
        const bool straight = space.straight();
        const std::int64_t own = straight ? 1 : space.inner_count();
        const std::int64_t all = space.down * own;
        std::int64_t lane_count = 1;
        if (straight && space.vector > 1) {
            code.line(fmt::format("const {} mine = {};", count_type(),
                                  steps_of(space, loop.part(), "y")));
            code.line(
                fmt::format("KN_UNROLL for (int j = 1; j < {}; ++j) "
                            "own[0].join(own[j], mine * j, mine);",
                            space.vector));
            lane_count = space.vector;
        }
        code.line(fmt::format("KN_SHARED {} known[{}];", state.number, state.numbers * all));
        code.open(fmt::format("if (y < {})", space.down));
        const std::string place =
            straight ? "y"
                     : fmt::format("y * {} + {} + j", own,
                                   space.columns == 1 ? "0" : fmt::format("v * {}", space.vector));
        for (int n = 0; n < state.numbers; ++n)
            code.line(
                fmt::format("KN_UNROLL for (int j = 0; j < {}; ++j) known[{} + {}] = "
                            "own[j].number({});",
                            straight ? 1 : space.vector, n * all, place, n));
        code.close();
        code.line("kn_sync();");

        const std::int64_t rows = space.inner_rows();
        const std::int64_t along = straight ? 1 : space.inner_along();
        const std::int64_t items = space.down * along;
        const auto body = [&](const std::string& item) {
            const Index of_item = math.split(item, {space.down, along});
            Index digits;
            const Index row = math.split(math.variable("row", rows), inner_extents(space, false));
            const Index column = math.split(of_item[1], inner_extents(space, true));
            std::string at = math.mul(of_item[0], own);
            if (!straight) {
                std::size_t r = 0, a = 0;
                for (const RowDigit& digit : space.inner)
                    digits.push_back(digit.along ? column[a++] : row[r++]);
                at = math.add(at, math.join(digits, extents_of(space.inner)));
            }
            const std::string count =
                lane_count == 1
                    ? steps_of(space, loop.part(), of_item[0])
                    : fmt::format("{} * {}", lane_count, steps_of(space, loop.part(), of_item[0]));
            return std::pair(fmt::format("{}::from(known + ({}), {})", state.name, at, all), count);
        };
        join_group(code, emitter, state, rows, items, space.threads(), body, [&] {
            const Index kept = kept_index(
                math, part, row_index(math, space, loop.outer(), math.variable("row", rows)));
            for (int n = 0; n < state.numbers; ++n)
                emitter.store(part.partial, partial_index(kept, n, loop.part()),
                              fmt::format("total.number({})", n));
        });
    }

    static Ints inner_extents(const RowSpace& space, bool along) {
        Ints result;
        for (const RowDigit& digit : space.inner)
            if (digit.along == along) result.push_back(digit.extent);
        return result;
    }

    /// `total` for each of `rows` rows from `items` states, by neighbouring threads; then `store`
    /// in one of them.
    template <class Item, class Store>
    void join_group(Code& code, Emitter& emitter, const RowState& state, std::int64_t rows,
                    std::int64_t items, int threads, const Item& item, const Store& store) {
        const int width = open_group(code, emitter, rows, items, threads);
        code.line(fmt::format("{0} total = {0}::start();", state.name));
        code.line(fmt::format("{} count = 0;", count_type()));
        const std::int64_t trips = ceil_div(items, width);
        code.open(fmt::format("{} for (int n = 0; n < {}; ++n)", unroll_of(trips), trips));
        emitter.push_scope();
        code.line(fmt::format("const int item = n * {} + thread % {};", width, width));
        if (items % width != 0) code.line(fmt::format("if (item >= {}) break;", items));
        const auto [other, other_count] = item(emitter.math().variable("item", items));
        code.line(fmt::format("const {} more = {};", count_type(), other_count));
        code.line(fmt::format("total.join({}, count, more);", other));
        code.line("count += more;");
        emitter.pop_scope();
        code.close();
        if (width > 1) {
            // Counts that are the same everywhere are constants, and so are the quotients of them.
            const bool same = items % width == 0 && emitter.math().constant(other_count);
            code.open(fmt::format("KN_UNROLL for (int mask = {}; mask > 0; mask /= 2)", width / 2));
            code.line(fmt::format("const {} other = total.shuffled(mask);", state.name));
            code.line(fmt::format("const {} more = {};", count_type(),
                                  same ? "count" : "kn_shuffle_any(count, mask)"));
            code.line("total.join(other, count, more);");
            code.line("count += more;");
            code.close();
        }
        close_group(code, emitter, rows, width, store);
    }

    /// `row` and `place` for neighbouring threads, which share each row: how many.
    static int open_group(Code& code, Emitter& emitter, std::int64_t rows, std::int64_t items,
                          int threads) {
        int width = 1;
        while (width < 32 && width * 2 < items && threads / (width * 2) >= rows) width *= 2;
        const int groups = threads / width;
        if (rows > groups) {
            code.open(fmt::format("for (int first = 0; first < {}; first += {})", rows, groups));
        } else {
            code.open("");
            code.line("const int first = 0;");
        }
        emitter.push_scope();
        // Threads beyond the last row do that again: no conditions around loads and shuffles.
        code.line(fmt::format("const int place = first + thread / {};", width));
        code.line(fmt::format("const int row = place < {0} ? place : {0} - 1;", rows));
        emitter.math().variable("row", rows);
        return width;
    }

    template <class Store>
    static void close_group(Code& code, Emitter& emitter, std::int64_t rows, int width,
                            const Store& store) {
        code.open(fmt::format("if (place < {} && thread % {} == 0)", rows, width));
        emitter.push_scope();
        store();
        emitter.pop_scope();
        code.close();
        emitter.pop_scope();
        code.close();
    }

    /// The same from statistics that other steps have given; `positions()`: of the row's digits.
    template <class Positions, class Store>
    void join_given(Code& code, Emitter& emitter, const Part& part, std::int64_t rows, int threads,
                    const Positions& positions, const Store& store) {
        const std::int64_t most = most_given(*part.columns, part.given);
        const int width = open_group(code, emitter, rows, most, threads);
        code.line(fmt::format("{0} total = {0}::start();", part.state.name));
        cuda::join_given(code, emitter, *part.columns, part.given, positions, width);
        close_group(code, emitter, rows, width, store);
    }

    /// The index of a part's result from an index of its space.
    Index kept_index(IndexMath& math, const Part& part, Index index) const {
        if (in_place(part.value)) return evaluate(math, part.kept, positions_of(math, index));
        const Operation& operation = graph()[part.value].operation;
        const Ints axes = reduced_axes(operation);
        Index result;
        for (std::size_t a = 0; a < index.size(); ++a) {
            if (std::find(axes.begin(), axes.end(), static_cast<std::int64_t>(a)) == axes.end())
                result.push_back(index[a]);
            else if (keeps_axes(operation))
                result.push_back("0");
        }
        return result;
    }

    /// The statistics of `rows` rows of a block into shared memory: the names of arrays, for each
    /// part. `place(row)`: an index of the root.
    template <class Place>
    void join_parts(Code& code, Emitter& emitter, std::int64_t rows, int threads,
                    const Place& place) {
        IndexMath& math = emitter.math();
        for (Part& part : parts_) {
            const RowState& state = part.state;
            part.shared = code.fresh("s");
            code.line(fmt::format("KN_SHARED {} {}[{}][{}];", state.number, part.shared,
                                  state.numbers, rows));
            const auto item = [&](const std::string& number) {
                const Index kept = evaluate(math, part.kept,
                                            positions_of(math, place(math.variable("row", rows))));
                std::string numbers;
                for (int n = 0; n < state.numbers; ++n)
                    numbers += (n == 0 ? "" : ", ") +
                               emitter.load(part.partial, partial_index(kept, n, number), "parts");
                const std::int64_t each = part.space.inner_along();
                const std::int64_t loop = part.space.loop_count(), span = part.space.span();
                const std::string count =
                    loop % span == 0
                        ? std::to_string(span * each)
                        : fmt::format("kn_steps<{0}>({1} - ({2}) * ({0}){3}, 1, {3}) * {4}",
                                      count_type(), loop, number, span, each);
                return std::pair(fmt::format("{}{{{}}}", state.name, numbers), count);
            };
            const auto store = [&] {
                const std::vector<std::string> finals = final_numbers(part);
                for (std::size_t n = 0; n < finals.size(); ++n)
                    if (!finals[n].empty())
                        code.line(fmt::format("{}[{}][row] = {};", part.shared, n, finals[n]));
            };
            const auto positions = [&] {
                return positions_of(math, place(math.variable("row", rows)));
            };
            if (part.given.empty())
                join_group(code, emitter, state, rows, part.space.parts, threads, item, store);
            else
                join_given(code, emitter, part, rows, threads, positions, store);
        }
        code.line("kn_sync();");
    }

    /// A row's statistics, as finish_reduction wants them, from `total`.
    std::vector<std::string> final_numbers(const Part& part) const {
        const Operation& operation = graph()[part.value].operation;
        if (const auto* o = std::get_if<op::Reduce>(&operation)) {
            if (o->op != ReduceOp::Mean) return {"total.value"};
            return {fmt::format("total.value / ({}){}", part.state.number,
                                reduced_count(graph(), part.value))};
        }
        if (std::holds_alternative<op::Softmax>(operation)) return {"total.most", "total.sum"};
        if (part.state.numbers == 1) return {"", norm_scale(graph(), part.value, "total.value")};
        return {"total.mean", norm_scale(graph(), part.value, "total.squares")};
    }

    /// Has the emitter take reductions' results from the statistics of this row of the block.
    void provide(Emitter& emitter, const std::string& row) {
        for (const Part& part : parts_) {
            std::vector<std::string> statistics = final_numbers(part);
            for (std::size_t n = 0; n < statistics.size(); ++n)
                if (!statistics[n].empty())
                    statistics[n] = emitter.define(part.state.number,
                                                   fmt::format("{}[{}][{}]", part.shared, n, row));
            emitter.provide(part.value, [this, &emitter, &part, statistics](const Index& index) {
                return finish_reduction(emitter, graph(), part.value, index, statistics);
            });
        }
    }

    KernelDraft results_along_rows() {
        KernelDraft draft;
        Code code;
        Emitter emitter(placement_, code, draft.operands);
        emitter.computes(group_.outputs);
        RowLoop loop(emitter, code, result_);
        loop.declare();
        emitter.set_lanes(result_.vector);
        // What the result reads besides statistics is on its way while they are put together.
        const std::size_t scope = emitter.scope();
        code.open("");
        emitter.push_scope();
        join_parts(code, emitter, result_.inner_rows(), result_.threads(),
                   [&](const std::string& row) {
                       return row_index(emitter.math(), result_, loop.outer(), row);
                   });
        provide(emitter, loop.inner_row());
        const Index index = loop.open(scope);
        emitter.store(root_, index, emitter.value(root_, index));
        loop.close();
        emitter.pop_scope();
        code.close();
        draft.name = "rows";
        finish(draft, code, result_.outer_count() * result_.parts, result_.threads());
        return draft;
    }

    /// The root has one element for each row.
    KernelDraft results_of_rows() {
        KernelDraft draft;
        Code code;
        Emitter emitter(placement_, code, draft.operands);
        IndexMath& math = emitter.math();
        emitter.computes(group_.outputs);
        const std::int64_t count = checked_size(extents_of(digits_));
        const std::int64_t rows = count % 4 == 0 ? 4 : count % 2 == 0 ? 2 : 1;
        std::vector<RowDigit> sorted = digits_;
        std::stable_sort(sorted.begin(), sorted.end(),
                         [](const RowDigit& a, const RowDigit& b) { return a.step > b.step; });
        code.line(fmt::format("const {} block = blockIdx.x;", math.type()));
        code.line("const int thread = threadIdx.x;");
        const std::string block = math.variable("block", count / rows);
        const auto place = [&](const std::string& row) {
            Index index(graph().shape(root_).rank(), "0");
            add_digits(math, index, sorted,
                       math.split(math.add(math.mul(block, rows), row), extents_of(sorted)));
            return index;
        };
        const int threads = static_cast<int>(32 * rows);
        join_parts(code, emitter, rows, threads, place);
        code.open(fmt::format("if (thread < {})", rows));
        emitter.push_scope();
        const std::string row = math.variable("thread", rows);
        provide(emitter, row);
        const Index index = place(row);
        emitter.store(root_, index, emitter.value(root_, index));
        emitter.pop_scope();
        code.close();
        draft.name = "rows";
        finish(draft, code, count / rows, threads);
        return draft;
    }

    static void finish(KernelDraft& draft, const Code& code, std::int64_t blocks, int threads) {
        draft.body = code.text();
        draft.grid = {static_cast<unsigned>(blocks)};
        draft.block = {static_cast<unsigned>(threads)};
        draft.helpers = std::string(kernel_text("row_parts"));
    }
};

}  // namespace

std::optional<std::string> lower_row_parts(Placement& placement, const Group& group,
                                           const RowAnalysis& rows) {
    RowParts parts(placement, group, rows);
    if (auto why = parts.plan()) return why;
    parts.add_steps();
    return std::nullopt;
}

}  // namespace kn::cuda
