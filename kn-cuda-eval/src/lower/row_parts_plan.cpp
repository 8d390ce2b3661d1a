#include "lower/row_parts_plan.h"

#include <algorithm>
#include <set>

#include <fmt/core.h>

namespace kn::cuda {

namespace {

constexpr std::int64_t kMostShared = 48 << 10;
constexpr std::int64_t kNumbers = 2048;  // of parts that a block puts together

RowState state_of(const Graph& graph, Value reduction) {
    const Operation& operation = graph[reduction].operation;
    const DType dtype = graph.dtype(inputs_of(operation).at(0));
    RowState state;
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

Index digit_variables(IndexMath& math, const std::vector<RowDigit>& digits) {
    Index names;
    for (std::size_t i = 0; i < digits.size(); ++i)
        names.push_back(math.variable(fmt::format("d{}", i), digits[i].extent));
    return names;
}

std::optional<LinearIndex> linear_index(IndexMath& math, const Index& index, const Index& names) {
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

std::int64_t shared_bytes(const RowState& state, const RowSpace& space) {
    const std::int64_t items = space.straight() ? space.down : space.down * space.inner_count();
    return items * state.numbers * static_cast<std::int64_t>(size_of(state.dtype));
}

}  // namespace

std::optional<std::string> RowPartsPlan::plan(bool hopeful) {
    hopeful_ = hopeful;
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

std::optional<std::string> RowPartsPlan::why_not(Value value) const {
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
std::optional<std::string> RowPartsPlan::find_places() {
    Code code;
    KernelOperands operands;
    Emitter emitter(placement_, code, operands);
    emitter.computes(group_.outputs);
    std::map<std::uint32_t, std::vector<Index>> asked;
    for (const Value& value : rows_.reductions)
        emitter.provide(value, [&asked, value, this](const Index& index) {
            auto& list = asked[value.index];
            if (std::find(list.begin(), list.end(), index) == list.end()) list.push_back(index);
            return literal(graph().dtype(value), 0);
        });
    const Index names = digit_variables(emitter.math(), digits_);
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

Index RowPartsPlan::evaluate(IndexMath& math, const LinearIndex& linear, const Index& positions) {
    Index result;
    for (std::size_t a = 0; a < linear.factors.size(); ++a) {
        std::string at = std::to_string(linear.constants[a]);
        for (std::size_t i = 0; i < positions.size(); ++i)
            at = math.add(at, math.mul(positions[i], linear.factors[a][i]));
        result.push_back(at);
    }
    return result;
}

std::optional<std::string> RowPartsPlan::add_part(Value value) {
    Part part;
    part.value = value;
    part.state = state_of(graph(), value);
    const Operation& operation = graph()[value].operation;
    const Value x = inputs_of(operation).at(0);
    const Ints extents = graph().shape(x).to_ints();
    const Ints axes = reduced_axes(operation);
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
    if (!is_given(part, digits))
        if (auto why = find_space(part, digits, *bytes)) return why;
    parts_.push_back(std::move(part));
    return std::nullopt;
}

std::optional<std::string> RowPartsPlan::find_space(Part& part, const std::vector<RowDigit>& digits,
                                                    std::size_t bytes) const {
    if (!group_.in_parts) return "no other step gives its statistics";
    const auto vector = static_cast<int>(16 / std::max<std::size_t>(bytes, 2));
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
    return std::nullopt;
}

std::vector<ColumnRows> RowPartsPlan::column_rows() const {
    std::vector<ColumnRows> result;
    for (const Part& part : parts_)
        if (part.columns) result.push_back(*part.columns);
    return result;
}

// Steps that write a matrix may give means and squared distances.
bool RowPartsPlan::is_given(Part& part, const std::vector<RowDigit>& digits) const {
    const auto* norm = graph().get_if<op::Norm>(part.value);
    if (!norm || norm->kind != NormKind::MeanVariance || !in_place(part.value) ||
        part.state.dtype != DType::F32)
        return false;
    part.columns = cuda::column_rows(placement_, norm->x, digits);
    if (part.columns) part.given = given_parts(placement_, *part.columns);
    return !part.given.empty() || (hopeful_ && part.columns);
}

std::size_t RowPartsPlan::space_rank(const Part& part) const {
    const Value x = inputs_of(graph()[part.value].operation).at(0);
    return in_place(part.value) ? graph().shape(root_).rank() : graph().shape(x).rank();
}

/// How the largest tensor read for the reduction lies along the digits; the bytes of its
/// elements.
std::optional<std::size_t> RowPartsPlan::find_steps(const Part& part, std::vector<RowDigit>& digits,
                                                    std::size_t rank) const {
    Code code;
    KernelOperands operands;
    Emitter emitter(placement_, code, operands);
    emitter.computes(group_.outputs);
    const Index names = digit_variables(emitter.math(), digits);
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

std::optional<std::string> RowPartsPlan::plan_result() {
    const TensorRef& tensor = placement_.stored(root_);
    const auto vector = static_cast<int>(16 / std::max<std::size_t>(size_of(tensor.dtype), 2));
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

}  // namespace kn::cuda
