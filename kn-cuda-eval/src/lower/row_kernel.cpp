#include "lower/row_kernel.h"

#include <algorithm>

#include <fmt/core.h>

#include "lower/row_values.h"

namespace kn::cuda {

namespace {

void add_digits(IndexMath& math, Index& index, const std::vector<RowAnalysis::Axis>& axes,
                const Index& digits) {
    for (std::size_t i = 0; i < axes.size(); ++i) {
        std::string& at = index[axes[i].root];
        at = math.add(at, math.mul(digits[i], axes[i].divisor));
    }
}

std::string both(const std::string& a, const std::string& b) {
    if (a.empty() || b.empty()) return a + b;
    return fmt::format("{} && {}", a, b);
}

}  // namespace

RowKernel::RowKernel(Placement& placement, const Group& group, const RowAnalysis& rows,
                     const RowForm& form)
    : placement_(placement),
      group_(group),
      rows_(rows),
      form_(form),
      root_(group.outputs.at(0)),
      parallel_(sorted_by_memory(placement.stored(root_), rows.parallel)),
      along_(sorted_by_memory(placement.stored(root_), rows.along)),
      length_(checked_size(extents_of(along_))),
      emitter_(placement, code_, draft_.operands),
      threads_(emitter_, code_, form, checked_size(extents_of(parallel_)), rows.longest) {}

KernelDraft RowKernel::make() {
    emitter_.computes(group_.outputs);
    for (const Value& reduction : rows_.reductions)
        emitter_.provide(
            reduction, [this, reduction](const Index& index) { return reduced(reduction, index); });
    threads_.open_row(draft_);
    const Index digits = math().split(threads_.row(), extents_of(parallel_));
    row_scope_ = emitter_.scope();
    threads_.open_elements();
    row_ = Index(placement_.stored(root_).shape.size(), "0");
    add_digits(math(), row_, parallel_, digits);
    if (length_ == 1) {
        emitter_.set_guard("");
        store_element("0");
    } else if (threads_.in_registers(length_)) {
        store_element(threads_.element());
    } else {
        threads_.over_loop(length_, [&](const std::string& k) { store_element(k); });
    }
    draft_.name = "rows";
    draft_.body = code_.text();
    return std::move(draft_);
}

/// The result's index of element `number` of the row.
Index RowKernel::place(const std::string& number) {
    Index index = row_;
    add_digits(math(), index, along_, math().split(number, extents_of(along_)));
    return index;
}

void RowKernel::store_element(const std::string& number) {
    const Index index = place(number);
    std::vector<std::string> results;
    for (const Value& output : group_.outputs) results.push_back(emitter_.value(output, index));
    const std::string guard = emitter_.guard();
    std::string stores = both(threads_.row_exists(), guard);
    if (length_ == 1 && form_.threads > 1) stores = both("lane == 0", stores);
    emitter_.set_guard(stores);
    for (std::size_t i = 0; i < results.size(); ++i)
        emitter_.store(group_.outputs[i], index, results[i]);
    emitter_.set_guard(guard);
}

bool RowKernel::reads_across() {
    if (!rows_.in_place.empty()) {
        const RowAnalysis::Axis& last = along_.back();
        return std::abs(placement_.stored(root_).strides[last.root]) * last.divisor != 1;
    }
    std::int64_t most = -1;
    bool across = false;
    for (const Emitter::Load& load : emitter_.loads()) {
        const auto step = math().part(load.offset, form_.elements > 0 ? "j" : "k");
        const auto lane_step = math().part(load.offset, "lane");
        if (!step || !lane_step || (step->factor == 0 && lane_step->factor == 0)) continue;
        if (load.elements <= most) continue;
        most = load.elements;
        across = std::abs(step->factor) > form_.vector && std::abs(lane_step->factor) > 1;
    }
    return across;
}

/// Element `index` of a reduction.
std::string RowKernel::reduced(Value value, const Index& index) {
    if (value == probed_) {
        probed_index_ = index;
        return literal(graph().dtype(value), 0);
    }
    const auto key = std::pair(value.index, statistics_index(value, index));
    if (auto found = statistics_.find(key); found != statistics_.end())
        return final_value(value, index, found->second);
    for (const std::string& text : key.second)
        if (math().scope_of(text) > row_scope_ || math().depends(text)) {
            computes_inline_ = true;
            return emitter_.compute_inline(value, index);
        }
    std::vector<std::string> statistics;
    const std::string guard = emitter_.guard();
    emitter_.set_guard(threads_.element_guard());
    emitter_.in_scope(row_scope_, [&] { statistics = compute_statistics(value, key.second); });
    emitter_.set_guard(guard);
    statistics_[key] = statistics;
    return final_value(value, index, statistics);
}

std::string RowKernel::final_value(Value value, const Index& index,
                                   const std::vector<std::string>& statistics) {
    const auto kept = exponentials_.find({value.index, index});
    return finish_reduction(emitter_, graph(), value, index, statistics,
                            kept == exponentials_.end() ? "" : kept->second);
}

/// The part of an element's index that its statistics depend on.
Index RowKernel::statistics_index(Value value, const Index& index) const {
    Index result = index;
    const Operation& operation = graph()[value].operation;
    if (keeps_axes(operation))
        for (const std::int64_t axis : reduced_axes(operation))
            result[static_cast<std::size_t>(axis)] = "0";
    return result;
}

std::vector<std::string> RowKernel::compute_statistics(Value value, const Index& index) {
    const Value x = inputs_of(graph()[value].operation).at(0);
    const auto index_of = [&](const std::string& k) {
        const auto own = place_in_result(value, k);
        return own ? *own : operand_index(value, index, k);
    };
    RowElements elements;
    elements.value = [&](const std::string& k) { return emitter_.value(x, index_of(k)); };
    elements.exponential = [&](const std::string& k, const std::string& most) {
        const Index at = index_of(k);
        return exponential(value, at, emitter_.value(x, at), most);
    };
    return row_statistics(threads_, code_, graph(), value, elements);
}

/// Where the value is asked for when element `number` of the row's result is computed: its
/// statistics then run over memory in the result's order, and share registers with it.
std::optional<Index> RowKernel::place_in_result(Value value, const std::string& number) {
    if (!rows_.in_place.count(value.index) || value == probed_) return std::nullopt;
    const bool in_register = form_.elements > 0 && number == threads_.element();
    if (in_register)
        if (auto found = places_.find(value.index); found != places_.end()) return found->second;
    const Value outer = probed_;
    probed_ = value;
    probed_index_.clear();
    emitter_.push_scope();
    emitter_.value(root_, place(number));
    emitter_.pop_scope();
    probed_ = outer;
    if (in_register) places_[value.index] = probed_index_;
    return probed_index_;
}

/// The operand's index for element `number` of the reduced axes; `kept`: the reduction's index.
Index RowKernel::operand_index(Value value, const Index& kept, const std::string& number) {
    const Operation& operation = graph()[value].operation;
    const Ints extents = graph().shape(inputs_of(operation).at(0)).to_ints();
    const Ints axes = reduced_axes(operation);
    Ints reduced;
    for (const std::int64_t axis : axes) reduced.push_back(extents[static_cast<std::size_t>(axis)]);
    const Index position = math().split(number, reduced);
    Index result;
    std::size_t next = 0;
    for (std::size_t i = 0; i < extents.size(); ++i) {
        const auto found = std::find(axes.begin(), axes.end(), static_cast<std::int64_t>(i));
        if (found == axes.end()) {
            result.push_back(kept[next++]);
        } else {
            result.push_back(position[static_cast<std::size_t>(found - axes.begin())]);
            if (keeps_axes(operation)) ++next;
        }
    }
    return result;
}

/// exp(x - most), kept for the elements in registers.
std::string RowKernel::exponential(Value value, const Index& index, const std::string& x,
                                   const std::string& most) {
    const std::string text = fmt::format("exp({} - {})", x, most);
    if (!math().varies(x) && form_.elements != 1) return text;
    auto [found, is_new] = exponentials_.try_emplace({value.index, index}, "");
    if (is_new) found->second = emitter_.define(compute_type(graph().dtype(value)), text);
    return found->second;
}

}  // namespace kn::cuda
