#include "lower/row_parts.h"

#include <algorithm>
#include <map>

#include <fmt/core.h>

#include "codegen/emit.h"
#include "codegen/kernel_text.h"
#include "lower/row_space.h"
#include "lower/row_values.h"

namespace kn::cuda {

namespace {

constexpr std::int64_t kMostShared = 48 << 10;
constexpr std::int64_t kNumbers = 2048;  // of parts that a block puts together

/// An index as a linear function of digits: index[a] = constants[a] + sum of factors[a][i] * digit i.
struct LinearIndex {
    std::vector<Ints> factors;
    Ints constants;
};

/// The state of a reduction, kernels/row_parts.cu.
struct State {
    std::string name;
    std::string number;  ///< the type of its numbers
    int numbers = 1;
    DType dtype = DType::F32;  ///< of its numbers in memory
};

State state_of(const Graph& graph, Value reduction) {
    const Operation& operation = graph[reduction].operation;
    const DType dtype = graph.dtype(inputs_of(operation).at(0));
    State state;
    state.dtype = is_half(dtype) ? DType::F32 : dtype;
    state.number = compute_type(dtype);
    const std::string& type = state.number;
    if (const auto* o = std::get_if<op::Reduce>(&operation)) {
        state.name = fmt::format("kn_total<{}, {}>", reduce_type(o->op), type);
    } else if (std::holds_alternative<op::Softmax>(operation)) {
        state.name = fmt::format("kn_exponentials<{}>", type);
        state.numbers = 2;
    } else if (std::get<op::Norm>(operation).kind == NormKind::MeanVariance) {
        state.name = fmt::format("kn_moments<{}>", type);
        state.numbers = 2;
    } else {
        state.name = fmt::format("kn_total<kn_op_sum, {}>", type);
    }
    return state;
}

const Ints& reduced_axes_of(const Operation& operation, Ints& own) {
    if (const auto* o = std::get_if<op::Reduce>(&operation)) own = o->axes;
    if (const auto* o = std::get_if<op::Softmax>(&operation)) own = {o->axis};
    if (const auto* o = std::get_if<op::Norm>(&operation)) own = o->axes;
    return own;
}

bool keeps_axes(const Operation& operation) {
    return !std::holds_alternative<op::Reduce>(operation);
}

class RowParts {
  public:
    RowParts(Placement& placement, const Group& group, const RowAnalysis& rows)
        : placement_(placement), group_(group), rows_(rows), root_(group.outputs.at(0)) {}

    std::optional<std::string> plan() {
        const TensorRef& tensor = placement_.stored(root_);
        for (const bool along : {false, true})
            for (const RowAnalysis::Axis& axis : along ? rows_.along : rows_.parallel)
                digits_.push_back({axis.root, axis.divisor, axis.extent, along,
                                   std::abs(tensor.strides[axis.root]) * axis.divisor});
        for (const Value& value : rows_.reductions)
            if (auto why = why_not(value)) return why;
        if (auto why = find_places()) return why;
        for (const Value& value : rows_.reductions)
            if (auto why = add_part(value)) return why;
        return rows_.along.empty() ? std::nullopt : plan_result();
    }

    void add_steps() {
        for (Part& part : parts_) {
            Group group = group_;
            group.outputs.clear();
            group.anchor = part.value;
            group.reason = fmt::format("{} parts of each of {} rows, which alone would leave most "
                                       "of the device idle",
                                       part.space.parts, checked_size(row_extents()));
            make_partial(part);
            add_kernel_step(placement_, group, part_kernel(part));
        }
        add_kernel_step(placement_, group_,
                        rows_.along.empty() ? results_of_rows() : results_along_rows());
    }

  private:
    struct Part {
        Value value;
        State state;
        RowSpace space;
        LinearIndex element;  // in place: of the reduction's elements, by the root's digits
        LinearIndex kept;     // of its result, by the root's digits
        TensorRef partial;    // the result's shape, numbers of the state, parts
        std::string shared;   // the array of its rows' statistics
    };

    const Graph& graph() const { return placement_.graph(); }
    bool in_place(Value value) const { return rows_.in_place.count(value.index) != 0; }
    /// Of elements of a row.
    const char* count_type() const { return rows_.longest <= INT32_MAX / 2 ? "int" : "long long"; }
    std::int64_t sms() const { return placement_.plan().device.sm_count; }
    Ints row_extents() const {
        Ints result;
        for (const RowDigit& digit : digits_)
            if (!digit.along) result.push_back(digit.extent);
        return result;
    }

    std::optional<std::string> why_not(Value value) const {
        if (graph().get_if<op::ArgReduce>(value))
            return "the place of the largest element is not put together from parts";
        if (graph().dtype(inputs_of(graph()[value].operation).at(0)) == DType::Bool)
            return "they are bools";
        std::vector<Value> stack{inputs_of(graph()[value].operation).at(0)};
        std::set<std::uint32_t> seen;
        while (!stack.empty()) {
            const Value at = stack.back();
            stack.pop_back();
            if (!seen.insert(at.index).second || placement_.is_stored(at)) continue;
            if (std::find(rows_.reductions.begin(), rows_.reductions.end(), at) !=
                rows_.reductions.end())
                return "one reduction needs another's result";
            for (const Value& x : inputs_of(graph()[at].operation)) stack.push_back(x);
        }
        return std::nullopt;
    }

    /// Where the root asks for each reduction, as linear functions of its digits.
    std::optional<std::string> find_places() {
        Code code;
        KernelOperands operands;
        Emitter emitter(placement_, code, operands);
        emitter.computes(group_.outputs);
        std::map<std::uint32_t, std::vector<Index>> asked;
        for (const Value& value : rows_.reductions)
            emitter.provide(value, [&asked, value, this](const Index& index) {
                auto& list = asked[value.index];
                if (std::find(list.begin(), list.end(), index) == list.end())
                    list.push_back(index);
                return literal(graph().dtype(value), 0);
            });
        const Index names = digit_variables(emitter.math(), digits_.size());
        Index index(placement_.stored(root_).shape.size(), "0");
        add_digits(emitter.math(), index, digits_, names);
        emitter.value(root_, index);
        for (const Value& value : rows_.reductions) {
            const std::vector<Index>& list = asked[value.index];
            if (list.size() != 1) return "the result reads several rows' statistics";
            const auto linear = linear_index(emitter.math(), list[0], names);
            if (!linear) return "its rows lie in no regular order";
            places_[value.index] = *linear;
        }
        return std::nullopt;
    }

    Index digit_variables(IndexMath& math, std::size_t count) const {
        Index names;
        for (std::size_t i = 0; i < count; ++i)
            names.push_back(math.variable(fmt::format("d{}", i), digits_[i].extent));
        return names;
    }

    static std::optional<LinearIndex> linear_index(IndexMath& math, const Index& index,
                                                   const Index& names) {
        LinearIndex result;
        for (std::string rest : index) {
            Ints factors;
            for (const std::string& name : names) {
                const auto part = math.part(rest, name);
                if (!part) return std::nullopt;
                factors.push_back(name == "0" ? 0 : part->factor);
                rest = part->rest;
            }
            const auto constant = math.constant(rest);
            if (!constant) return std::nullopt;
            result.factors.push_back(std::move(factors));
            result.constants.push_back(*constant);
        }
        return result;
    }

    /// The index for these positions of `digits_`.
    static Index evaluate(IndexMath& math, const LinearIndex& linear, const Index& positions) {
        Index result;
        for (std::size_t a = 0; a < linear.factors.size(); ++a) {
            std::string at = std::to_string(linear.constants[a]);
            for (std::size_t i = 0; i < positions.size(); ++i)
                at = math.add(at, math.mul(positions[i], linear.factors[a][i]));
            result.push_back(at);
        }
        return result;
    }

    std::optional<std::string> add_part(Value value) {
        Part part;
        part.value = value;
        part.state = state_of(graph(), value);
        const Operation& operation = graph()[value].operation;
        const Value x = inputs_of(operation).at(0);
        const Ints extents = graph().shape(x).to_ints();
        Ints own;
        const Ints& axes = reduced_axes_of(operation, own);
        const auto is_reduced = [&](std::size_t axis) {
            return std::find(axes.begin(), axes.end(), static_cast<std::int64_t>(axis)) != axes.end();
        };
        part.element = places_.at(value.index);
        part.kept = part.element;
        if (keeps_axes(operation))
            for (const std::int64_t axis : axes) {
                const auto a = static_cast<std::size_t>(axis);
                part.kept.factors[a].assign(digits_.size(), 0);
                part.kept.constants[a] = 0;
            }
        for (const Ints& factors : part.kept.factors)
            for (std::size_t i = 0; i < digits_.size(); ++i)
                if (digits_[i].along && factors[i] != 0) return "its rows are not the result's";
        std::vector<RowDigit> digits;
        if (in_place(value)) {
            digits = digits_;
        } else {
            for (std::size_t a = 0; a < extents.size(); ++a)
                if (extents[a] != 1) digits.push_back({a, 1, extents[a], is_reduced(a), 0});
        }
        const auto bytes = find_steps(part, digits, extents.size());
        if (!bytes) return "its elements lie in no regular order";
        const auto vector = static_cast<int>(16 / std::max<std::size_t>(*bytes, 2));
        RowTeams teams{512, sms(), 2, kNumbers};
        auto space = row_space(digits, space_rank(part), vector, teams);
        // What the threads of a block know has to fit in its shared memory.
        while (space && shared_bytes(part.state, *space) > kMostShared && teams.threads > 32) {
            teams.threads /= 2;
            space = row_space(digits, space_rank(part), vector, teams);
        }
        if (space && space->parts < 2) return "there are rows enough for all multiprocessors";
        if (!space || shared_bytes(part.state, *space) > kMostShared)
            return "too much lies between neighbours along its rows";
        part.space = *space;
        parts_.push_back(std::move(part));
        return std::nullopt;
    }

    std::size_t space_rank(const Part& part) const {
        const Value x = inputs_of(graph()[part.value].operation).at(0);
        return in_place(part.value) ? graph().shape(root_).rank() : graph().shape(x).rank();
    }

    static std::int64_t shared_bytes(const State& state, const RowSpace& space) {
        const std::int64_t items = space.straight() ? space.down : space.down * space.inner_count();
        return items * state.numbers * static_cast<std::int64_t>(size_of(state.dtype));
    }

    /// How the largest tensor read for the reduction lies along the digits; the bytes of its
    /// elements.
    std::optional<std::size_t> find_steps(const Part& part, std::vector<RowDigit>& digits,
                                          std::size_t rank) const {
        Code code;
        KernelOperands operands;
        Emitter emitter(placement_, code, operands);
        emitter.computes(group_.outputs);
        Index names;
        for (std::size_t i = 0; i < digits.size(); ++i)
            names.push_back(emitter.math().variable(fmt::format("d{}", i), digits[i].extent));
        Index index(rank, "0");
        if (in_place(part.value))
            index = evaluate(emitter.math(), part.element, names);
        else
            add_digits(emitter.math(), index, digits, names);
        emitter.value(inputs_of(graph()[part.value].operation).at(0), index);
        const Emitter::Load* largest = nullptr;
        for (const Emitter::Load& load : emitter.loads())
            if (!largest || load.elements > largest->elements) largest = &load;
        if (!largest) return std::nullopt;
        for (std::size_t i = 0; i < digits.size(); ++i) {
            const auto part_of = emitter.math().part(largest->offset, names[i]);
            if (!part_of) return std::nullopt;
            digits[i].step = std::abs(part_of->factor);
        }
        return largest->bytes;
    }

    std::optional<std::string> plan_result() {
        const TensorRef& tensor = placement_.stored(root_);
        const auto vector =
            static_cast<int>(16 / std::max<std::size_t>(size_of(tensor.dtype), 2));
        const auto space = row_space(digits_, tensor.shape.size(), vector, {512, 2 * sms(), 1, 0});
        if (!space) return "too much lies between neighbours along the result's rows";
        std::int64_t bytes = 0;
        for (const Part& part : parts_)
            bytes += space->inner_rows() * part.state.numbers *
                     static_cast<std::int64_t>(size_of(part.state.dtype));
        if (bytes > kMostShared) return "the statistics of its rows do not fit in shared memory";
        result_ = *space;
        return std::nullopt;
    }

    void make_partial(Part& part) {
        Ints shape = graph().shape(part.value).to_ints();
        const Operation& operation = graph()[part.value].operation;
        Ints own;
        if (keeps_axes(operation))
            for (const std::int64_t axis : reduced_axes_of(operation, own))
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
        const State& state = part.state;
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
        if (in_place(part.value))
            index = evaluate(math, part.element, positions_of(math, index));
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
        return fmt::format("kn_steps<{0}>({1} - (({2}) * ({0}){3} + {4}), {5}, {6})",
                           count_type(), space.loop_count(), part, space.span(), y, space.down,
                           space.steps);
    }

    /// Puts together what the threads of a block know, row by row, and stores it.
    void join_block(const Part& part, Code& code, Emitter& emitter, const RowLoop& loop) {
        const RowSpace& space = part.space;
        const State& state = part.state;
        IndexMath& math = emitter.math();
        const bool straight = space.straight();
        const std::int64_t own = straight ? 1 : space.inner_count();
        const std::int64_t all = space.down * own;
        std::int64_t lane_count = 1;
        if (straight && space.vector > 1) {
            code.line(fmt::format("const {} mine = {};", count_type(),
                                  steps_of(space, loop.part(), "y")));
            code.line(fmt::format("KN_UNROLL for (int j = 1; j < {}; ++j) "
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
            code.line(fmt::format("KN_UNROLL for (int j = 0; j < {}; ++j) known[{} + {}] = "
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
                math, part,
                row_index(math, space, loop.outer(), math.variable("row", rows)));
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

    /// `total` for each of `rows` rows from `items` states, by neighbouring threads; then `store` in
    /// one of them.
    template <class Item, class Store>
    void join_group(Code& code, Emitter& emitter, const State& state, std::int64_t rows,
                    std::int64_t items, int threads, const Item& item, const Store& store) {
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
        code.line(fmt::format("{0} total = {0}::start();", state.name));
        code.line(fmt::format("{} count = 0;", count_type()));
        const std::int64_t trips = (items + width - 1) / width;
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
        code.open(fmt::format("if (place < {} && thread % {} == 0)", rows, width));
        emitter.push_scope();
        store();
        emitter.pop_scope();
        code.close();
        emitter.pop_scope();
        code.close();
    }

    /// The index of a part's result from an index of its space.
    Index kept_index(IndexMath& math, const Part& part, Index index) const {
        if (in_place(part.value))
            return evaluate(math, part.kept, positions_of(math, index));
        Ints own;
        const Operation& operation = graph()[part.value].operation;
        const Ints& axes = reduced_axes_of(operation, own);
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
            const State& state = part.state;
            part.shared = code.fresh("s");
            code.line(fmt::format("KN_SHARED {} {}[{}][{}];", state.number, part.shared,
                                  state.numbers, rows));
            const auto item = [&](const std::string& number) {
                const Index kept = evaluate(
                    math, part.kept,
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
            join_group(code, emitter, state, rows, part.space.parts, threads, item, [&] {
                const std::vector<std::string> finals = final_numbers(part);
                for (std::size_t n = 0; n < finals.size(); ++n)
                    if (!finals[n].empty())
                        code.line(fmt::format("{}[{}][row] = {};", part.shared, n, finals[n]));
            });
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
                                 math.split(math.add(math.mul(block, rows), row),
                                            extents_of(sorted)));
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

    Placement& placement_;
    const Group& group_;
    const RowAnalysis& rows_;
    Value root_;
    std::vector<RowDigit> digits_;  // of the root
    std::map<std::uint32_t, LinearIndex> places_;
    std::vector<Part> parts_;
    RowSpace result_;
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
