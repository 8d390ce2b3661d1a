// Reductions over rows by warps, blocks, or columns of threads, with what surrounds them.
//
// A row is a set of elements that share a reduction's result. Threads that work on one row hold its
// elements in registers where they fit ("register form": lanes of the emitter), so that softmax or
// a norm reads memory once; otherwise they run over the row again for each statistic and for the
// result.
#include <algorithm>
#include <bit>
#include <map>
#include <numeric>

#include <fmt/core.h>

#include "codegen/emit.h"
#include "lower/lower.h"
#include "lower/row_parts.h"
#include "lower/row_values.h"
#include "planner/rows.h"

namespace kn::cuda {

namespace {

constexpr int kMostInRegisters = 16;  // elements a thread

/// How threads share a row.
struct Form {
    enum class Kind { Warp, Block, Columns } kind = Kind::Warp;
    int threads = 32;    ///< a row
    int elements = 0;    ///< of a row in a thread's registers; 0: loops
    bool chunks = true;  ///< a thread's elements are neighbours
    int vector = 1;      ///< loops: elements a thread reads at once
};

using Axes = std::vector<RowAnalysis::Axis>;

Axes sorted_by_memory(const TensorRef& tensor, Axes axes) {
    const auto step = [&](const RowAnalysis::Axis& axis) {
        return std::abs(tensor.strides[axis.root]) * axis.divisor;
    };
    std::stable_sort(axes.begin(), axes.end(),
                     [&](const auto& a, const auto& b) { return step(a) > step(b); });
    return axes;
}

Ints extents_of(const Axes& axes) {
    Ints result;
    for (const RowAnalysis::Axis& axis : axes) result.push_back(axis.extent);
    return result;
}

class RowKernel {
  public:
    RowKernel(Placement& placement, const Group& group, const RowAnalysis& rows, const Form& form)
        : placement_(placement),
          group_(group),
          rows_(rows),
          form_(form),
          emitter_(placement, code_, draft_.operands) {}

    KernelDraft make() {
        const Value root = group_.outputs.at(0);
        const TensorRef& tensor = placement_.stored(root);
        const Axes parallel = sorted_by_memory(tensor, rows_.parallel);
        const Ints parallel_extents = extents_of(parallel);
        count_ = checked_size(parallel_extents);
        emitter_.computes(group_.outputs);
        for (const Value& reduction : rows_.reductions)
            emitter_.provide(reduction, [this, reduction](const Index& index) {
                return reduced(reduction, index);
            });

        open_row();
        const Index digits = math().split(row_, parallel_extents);
        row_scope_ = emitter_.scope();
        if (form_.elements == 0) emitter_.set_lanes(form_.vector);
        if (form_.elements > 0) {
            emitter_.set_lanes(form_.elements);
            set_elements();
            emitter_.set_guard(element_guard_);
        }
        Index row(tensor.shape.size(), "0");
        const auto add_digits = [&](Index& index, const Axes& axes, const Index& position) {
            for (std::size_t i = 0; i < axes.size(); ++i) {
                std::string& at = index[axes[i].root];
                at = math().add(at, math().mul(position[i], axes[i].divisor));
            }
        };
        add_digits(row, parallel, digits);
        const Axes along = sorted_by_memory(tensor, rows_.along);
        const Ints extents = extents_of(along);
        const std::int64_t length = checked_size(extents);
        place_ = [&](const std::string& number) {
            Index index = row;
            add_digits(index, along, math().split(number, extents));
            return index;
        };
        const auto body = [&](const std::string& number) {
            const Index index = place_(number);
            std::vector<std::string> results;
            for (const Value& output : group_.outputs)
                results.push_back(emitter_.value(output, index));
            const std::string guard = emitter_.guard();
            std::string all = guard;
            if (!row_exists_.empty())
                all = all.empty() ? row_exists_ : fmt::format("{} && {}", row_exists_, all);
            if (length == 1 && form_.threads > 1)
                all = all.empty() ? "lane == 0" : fmt::format("lane == 0 && {}", all);
            emitter_.set_guard(all);
            for (std::size_t i = 0; i < results.size(); ++i)
                emitter_.store(group_.outputs[i], index, results[i]);
            emitter_.set_guard(guard);
        };
        if (length == 1) {
            const std::string guard = emitter_.guard();
            emitter_.set_guard("");
            body("0");
            emitter_.set_guard(guard);
        } else if (in_registers(length)) {
            body(element_);
        } else {
            over_loop(length, body);
        }
        return finish();
    }

    /// Whether the largest tensor that is read along rows has its neighbours in other rows.
    bool reads_across() {
        if (!rows_.in_place.empty()) {
            const TensorRef& tensor = placement_.stored(group_.outputs.at(0));
            const RowAnalysis::Axis last = sorted_by_memory(tensor, rows_.along).back();
            return std::abs(tensor.strides[last.root]) * last.divisor != 1;
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

    /// Whether a reduction could not be seen to be one for each row.
    bool computes_inline() const { return computes_inline_; }

  private:
    IndexMath& math() { return emitter_.math(); }

    // Declares `lane` (the thread's number in its row) and the row.
    void open_row() {
        const char* type = math().type();
        const int threads = form_.threads;
        if (form_.kind == Form::Kind::Block) {
            code_.line("const int lane = threadIdx.x;");
            row_ = math().variable("row", count_);
            if (count_ > 1) code_.line(fmt::format("const {} row = blockIdx.x;", type));
            draft_.grid = {static_cast<unsigned>(count_)};
            draft_.block = {static_cast<unsigned>(threads)};
        } else {
            std::int64_t rows = 0;  // a block
            std::string own;
            if (form_.kind == Form::Kind::Warp) {
                const int block = std::max(threads, 128);
                rows = block / threads;
                code_.line(fmt::format("const int lane = threadIdx.x % {};", threads));
                own = fmt::format("threadIdx.x / {}", threads);
                draft_.block = {static_cast<unsigned>(block)};
            } else {
                rows = 32;
                code_.line("const int lane = threadIdx.y;");
                own = "threadIdx.x";
                draft_.block = {32, static_cast<unsigned>(threads)};
            }
            const std::int64_t blocks = (count_ + rows - 1) / rows;
            draft_.grid = {static_cast<unsigned>(blocks)};
            row_ = math().variable("row", count_);
            const std::string number = fmt::format("({}){} * {} + {}", type, "blockIdx.x", rows, own);
            if (count_ % rows == 0) {
                code_.line(fmt::format("const {} row = {};", type, number));
            } else {
                // Threads beyond the last row take part in shuffles and barriers.
                code_.line(fmt::format("const {} row_or_more = {};", type, number));
                code_.line(fmt::format("const {0} row = row_or_more < {1} ? row_or_more : {2};",
                                       type, count_, count_ - 1));
                row_exists_ = fmt::format("row_or_more < {}", count_);
            }
        }
        // Of the lanes that have elements: the others' loads and stores are guarded.
        std::int64_t lanes = threads;
        if (form_.elements > 0 && (form_.chunks || form_.elements == 1))
            lanes = std::min(lanes, std::max<std::int64_t>(rows_.longest / form_.elements, 2));
        lane_ = math().variable("lane", lanes);
        if (lane_ != "0") math().mark("lane");
    }

    bool in_registers(std::int64_t length) const {
        return form_.elements > 0 && length == rows_.longest;
    }

    void set_elements() {
        const std::int64_t length = rows_.longest;
        const std::int64_t room = std::int64_t{form_.threads} * form_.elements;
        if (form_.elements == 1) {
            element_ = lane_;
            if (room > length) element_guard_ = fmt::format("lane < {}", length);
        } else if (form_.chunks) {
            element_ = math().add(math().mul(lane_, form_.elements), "j");
            if (room > length)
                element_guard_ = fmt::format("lane * {} < {}", form_.elements, length);
        } else {
            element_ = math().add(math().mul("j", form_.threads), lane_);
            if (room > length)
                element_guard_ = fmt::format("j * {} + lane < {}", form_.threads, length);
        }
    }

    /// Calls `body` with the number of each of the thread's elements (of a vector of them).
    template <class Body>
    void over_loop(std::int64_t length, const Body& body) {
        const int lanes = emitter_.lanes();
        const int step = form_.elements == 0 && length % lanes == 0 ? lanes : 1;
        const std::string guard = emitter_.guard();
        emitter_.set_guard("");
        code_.open(fmt::format("for ({} k = {}; k < {}; k += {})", math().type(), lane_,
                               length / step, form_.threads));
        emitter_.push_scope();
        std::string k = math().variable("k", length / step);
        if (k == "k") math().mark("k");
        if (step > 1) k = math().add(math().mul(k, step), "j");
        if (step == 1 && lanes > 1) code_.line("const int j = 0;");
        body(k);
        emitter_.pop_scope();
        code_.close();
        emitter_.set_guard(guard);
    }

    /// The result of `Op::join` over all elements of the row.
    template <class Element>
    std::string reduce(const std::string& op, const std::string& type, std::int64_t length,
                       const Element& element) {
        const std::string total = code_.fresh("r");
        code_.line(fmt::format("{} {} = {}::start<{}>();", type, total, op, type));
        if (in_registers(length)) {
            const std::string x = element(element_);
            const std::string guard = emitter_.guard();
            const std::string term =
                guard.empty() ? x : fmt::format("({}) ? {} : {}::start<{}>()", guard, x, op, type);
            code_.line(fmt::format(
                "{}{} = {}::join({}, {});",
                form_.elements == 1
                    ? ""
                    : fmt::format("KN_UNROLL for (int j = 0; j < {}; ++j) ", form_.elements),
                total, op, total, term));
        } else if (length > 0) {
            over_loop(length, [&](const std::string& k) {
                const std::string x = element(k);
                const bool lanes = form_.elements == 0 && math().varies(k);
                code_.line(fmt::format(
                    "{}{} = {}::join({}, {});",
                    lanes ? fmt::format("KN_UNROLL for (int j = 0; j < {}; ++j) ", form_.vector)
                          : "",
                    total, op, total, x));
            });
        }
        const int threads = form_.threads;
        if (threads == 1) return total;
        std::string text;
        switch (form_.kind) {
            case Form::Kind::Warp:
                text = fmt::format("kn_reduce_warp<{}, {}>({})", op, threads, total);
                break;
            case Form::Kind::Block:
                text = fmt::format("kn_reduce_block<{}, {}>({}, {}, lane)", op, threads, total,
                                   shared(type, threads / 32));
                break;
            case Form::Kind::Columns:
                text = fmt::format("kn_reduce_columns<{}, 32, {}>({}, {}, threadIdx.x, lane)", op,
                                   threads, total, shared(type, threads * 32));
                break;
        }
        code_.line(fmt::format("{} = {};", total, text));
        return total;
    }

    std::string shared(const std::string& type, int elements) {
        auto [found, is_new] = shared_.try_emplace(type, "");
        if (is_new) {
            found->second = code_.fresh("s");
            code_.line(fmt::format("KN_SHARED {} {}[{}];", type, found->second, elements));
        }
        return found->second;
    }

    std::string reduced(Value value, const Index& index) {
        if (value == probed_) {
            probed_index_ = index;
            return literal(placement_.graph().dtype(value), 0);
        }
        const auto key = std::pair(value.index, statistics_index(value, index));
        if (auto found = results_.find(key); found != results_.end())
            return final_value(value, index, found->second);
        for (const std::string& text : key.second)
            if (math().scope_of(text) > row_scope_ || math().depends(text))
                return inlined(value, index);  // not one for each row after all
        std::vector<std::string> statistics;
        const std::string guard = emitter_.guard();
        emitter_.set_guard(element_guard_);
        emitter_.in_scope(row_scope_, [&] { statistics = compute_statistics(value, key.second); });
        emitter_.set_guard(guard);
        results_[key] = statistics;
        return final_value(value, index, statistics);
    }

    std::string inlined(Value value, const Index& index) {
        computes_inline_ = true;
        return emitter_.compute_inline(value, index);
    }

    /// Where the value is asked for when element `number` of the row's result is computed: its
    /// statistics then run over memory in the result's order, and share registers with it.
    std::optional<Index> probe(Value value, const std::string& number) {
        if (!rows_.in_place.count(value.index) || value == probed_) return std::nullopt;
        const bool in_register = form_.elements > 0 && number == element_;
        if (in_register)
            if (auto found = places_.find(value.index); found != places_.end())
                return found->second;
        const Value outer = probed_;
        probed_ = value;
        probed_index_.clear();
        emitter_.push_scope();
        emitter_.value(group_.outputs.at(0), place_(number));
        emitter_.pop_scope();
        probed_ = outer;
        if (in_register) places_[value.index] = probed_index_;
        return probed_index_;
    }

    /// The part of an element's index that its statistics depend on.
    Index statistics_index(Value value, const Index& index) const {
        Index result = index;
        const Operation& operation = graph()[value].operation;
        if (const auto* softmax = std::get_if<op::Softmax>(&operation))
            result[static_cast<std::size_t>(softmax->axis)] = "0";
        if (const auto* norm = std::get_if<op::Norm>(&operation))
            for (const std::int64_t axis : norm->axes) result[static_cast<std::size_t>(axis)] = "0";
        return result;
    }

    /// The operand's index for element `number` along the axes.
    Index inner_index(Value x, const Ints& axes, const Index& kept, const std::string& number,
                      bool keeps) {
        const Ints extents = graph().shape(x).to_ints();
        Ints along;
        for (const std::int64_t axis : axes) along.push_back(extents[static_cast<std::size_t>(axis)]);
        const Index position = math().split(number, along);
        Index result;
        std::size_t next = 0;
        for (std::size_t i = 0; i < extents.size(); ++i) {
            const auto found = std::find(axes.begin(), axes.end(), static_cast<std::int64_t>(i));
            if (found == axes.end()) {
                result.push_back(kept[next++]);
            } else {
                result.push_back(position[static_cast<std::size_t>(found - axes.begin())]);
                if (keeps) ++next;
            }
        }
        return result;
    }

    std::vector<std::string> compute_statistics(Value value, const Index& index) {
        const Operation& operation = graph()[value].operation;
        const Value x = inputs_of(operation).at(0);
        const DType dtype = graph().dtype(x);
        const std::string type = compute_type(dtype);
        const std::int64_t count = reduced_count(graph(), value);
        if (const auto* o = std::get_if<op::Reduce>(&operation)) {
            const std::string total =
                reduce(reduce_type(o->op), type, count, [&](const std::string& k) {
                    return emitter_.value(x, inner_index(x, o->axes, index, k, false));
                });
            if (o->op == ReduceOp::Mean)
                code_.line(fmt::format("{} /= ({}){};", total, type, count));
            return {total};
        }
        if (const auto* o = std::get_if<op::ArgReduce>(&operation)) {
            const auto element = [&](const std::string& k) {
                return emitter_.value(x, inner_index(x, {o->axis}, index, k, false));
            };
            const std::string most =
                reduce(o->largest ? "kn_op_max" : "kn_op_min", type, count, element);
            // Of NaNs the first.
            const bool real = is_float(dtype);
            const std::string best =
                reduce("kn_op_min", "long long", count, [&](const std::string& k) {
                    const std::string v = element(k);
                    const std::string at = o->last ? fmt::format("{} - ({})", count - 1, k) : k;
                    const std::string place =
                        !real ? fmt::format("(long long)({})", at)
                              : fmt::format("(long long)({0} != {0} ? ({1}) : ({2}))", most, k, at);
                    const std::string hit =
                        !real ? fmt::format("{} == {}", v, most)
                              : fmt::format("({0} == {1} || ({0} != {0} && {1} != {1}))", v, most);
                    return fmt::format("({} ? {} : 0x7fffffffffffffffll)", hit, place);
                });
            if (o->last)
                code_.line(real ? fmt::format("if ({1} == {1}) {0} = {2} - {0};", best, most,
                                              count - 1)
                                : fmt::format("{0} = {1} - {0};", best, count - 1));
            return {best};
        }
        if (const auto* o = std::get_if<op::Softmax>(&operation)) {
            const auto place = [&](const std::string& k) {
                const auto own = probe(value, k);
                return own ? *own : inner_index(x, {o->axis}, index, k, true);
            };
            const std::string most = reduce("kn_op_max", type, count, [&](const std::string& k) {
                return emitter_.value(x, place(k));
            });
            const std::string sum = reduce("kn_op_sum", type, count, [&](const std::string& k) {
                const Index at = place(k);
                return exponential(value, at, emitter_.value(x, at), most);
            });
            return {most, sum};
        }
        const auto& o = std::get<op::Norm>(operation);
        const auto element = [&](const std::string& k) {
            const auto own = probe(value, k);
            return emitter_.value(x, own ? *own : inner_index(x, o.axes, index, k, true));
        };
        std::string mean;
        if (o.kind == NormKind::MeanVariance) {
            mean = reduce("kn_op_sum", type, count, element);
            code_.line(fmt::format("{} /= ({}){};", mean, type, count));
        }
        const std::string scale = reduce("kn_op_sum", type, count, [&](const std::string& k) {
            const std::string v = element(k);
            return mean.empty() ? fmt::format("{0} * {0}", v)
                                : fmt::format("({0} - {1}) * ({0} - {1})", v, mean);
        });
        code_.line(fmt::format("{} = {};", scale, norm_scale(graph(), value, scale)));
        return {mean, scale};
    }

    /// exp(x - most), kept for the elements in registers.
    std::string exponential(Value value, const Index& index, const std::string& x,
                            const std::string& most) {
        const std::string text = fmt::format("exp({} - {})", x, most);
        if (!math().varies(x) && form_.elements != 1) return text;
        auto [found, is_new] = exponentials_.try_emplace({value.index, index}, "");
        if (is_new)
            found->second = emitter_.define(compute_type(graph().dtype(value)), text);
        return found->second;
    }

    std::string final_value(Value value, const Index& index,
                            const std::vector<std::string>& statistics) {
        const auto kept = exponentials_.find({value.index, index});
        return finish_reduction(emitter_, graph(), value, index, statistics,
                                kept == exponentials_.end() ? "" : kept->second);
    }

    KernelDraft finish() {
        draft_.name = "rows";
        draft_.body = code_.text();
        return std::move(draft_);
    }

    const Graph& graph() const { return placement_.graph(); }

    Placement& placement_;
    const Group& group_;
    const RowAnalysis& rows_;
    Form form_;
    KernelDraft draft_;
    Code code_;
    Emitter emitter_;
    std::int64_t count_ = 0;
    bool computes_inline_ = false;
    std::string row_, lane_, row_exists_, element_, element_guard_;
    std::size_t row_scope_ = 0;
    std::function<Index(const std::string&)> place_;  // of element number `k` of the row
    Value probed_;
    Index probed_index_;
    std::map<std::uint32_t, Index> places_;
    std::map<std::string, std::string> shared_;
    std::map<std::pair<std::uint32_t, Index>, std::vector<std::string>> results_;
    std::map<std::pair<std::uint32_t, Index>, std::string> exponentials_;
};

int power_of_two(std::int64_t n, int least, int most) {
    int result = least;
    while (result < most && result < n) result *= 2;
    return result;
}

/// `run`: neighbours along a row in memory.
Form choose(std::int64_t rows, std::int64_t length, std::int64_t run, bool columns, int vector,
            int sm_count) {
    Form form;
    form.vector = vector;
    if (columns) {
        form.vector = 1;
        form.kind = Form::Kind::Columns;
        // Enough threads in all, and enough work for each.
        form.threads = 1;
        while (form.threads < 32 && form.threads * 4 < length &&
               rows * form.threads < std::int64_t{sm_count} * 1024)
            form.threads *= 2;
        if (form.threads == 1) form.threads = length > 32 ? 4 : 1;
        return form;
    }
    // Otherwise neighbours go to neighbouring threads. (The vector is the result's; the reduced rows
    // may have another length.)
    const bool wide = vector >= 4 && length % vector == 0;
    if (length <= 1024) {
        form.kind = Form::Kind::Warp;
        form.threads = power_of_two((length + 3) / 4, 1, 32);
    } else {
        form.kind = Form::Kind::Block;
        form.threads = power_of_two((length + 7) / 8, 64, 1024);
    }
    const std::int64_t each = (length + form.threads - 1) / form.threads;
    if (each > kMostInRegisters && form.kind == Form::Kind::Warp) {
        form.kind = Form::Kind::Block;
        form.threads = power_of_two((length + 7) / 8, 64, 1024);
    }
    const std::int64_t own = (length + form.threads - 1) / form.threads;
    if (own <= kMostInRegisters) {
        form.chunks = wide;
        form.elements = static_cast<int>(own);
        if (wide) {
            int chunk = 4;
            while (chunk < own) chunk *= 2;
            while (chunk > vector && (length % chunk != 0 || run % chunk != 0)) chunk /= 2;
            form.elements = chunk;
            if (std::int64_t{chunk} * form.threads < length) {
                form.chunks = false;
                form.elements = static_cast<int>(own);
            }
        }
    }
    return form;
}

}  // namespace

void lower_rows(Placement& placement, const Group& whole) {
    Group group = whole;
    const Value root = group.outputs.at(0);
    const auto is_own = [&](Value value) {
        return std::find(group.outputs.begin(), group.outputs.end(), value) != group.outputs.end();
    };
    const std::function<bool(Value)> is_leaf = [&](Value value) {
        return placement.is_stored(value) && !is_own(value);
    };
    const RowAnalysis rows = analyse_rows(placement.graph(), root, is_leaf);
    if (checked_size(placement.graph().shape(root).to_ints()) == 0) return;
    if (rows.reductions.empty() || rows.longest == 0) return lower_pointwise(placement, group);
    if (group.in_parts) {
        const auto why = lower_row_parts(placement, group, rows);
        if (!why) return;
        group.reason += "; not in parts: " + *why;
    }
    const std::int64_t count = checked_size(extents_of(rows.parallel));
    const int sms = placement.plan().device.sm_count;
    // Neighbours along a row, as far as vectors of 16 bytes go.
    const TensorRef& tensor = placement.stored(root);
    int vector = 1;
    std::int64_t run = rows.longest;
    if (const Axes along = sorted_by_memory(tensor, rows.along); !along.empty()) {
        run = along.back().extent;
        const int most = static_cast<int>(16 / std::max<std::size_t>(size_of(tensor.dtype), 2));
        while (vector < most && along.back().extent % (2 * vector) == 0) vector *= 2;
    } else {
        const int most = 4;
        while (vector < most && rows.longest % (2 * vector) == 0) vector *= 2;
    }
    Form form = choose(count, rows.longest, run, false, vector, sms);
    RowKernel straight(placement, group, rows, form);
    KernelDraft draft = straight.make();
    if (straight.computes_inline() && form.elements > 0) {
        // The numbers of elements in registers reach beyond the row; those of loops do not.
        form.elements = 0;
        RowKernel loops(placement, group, rows, form);
        draft = loops.make();
    }
    if (straight.reads_across() && count > 1) {
        RowKernel columns(placement, group, rows, choose(count, rows.longest, run, true, 1, sms));
        draft = columns.make();
    }
    add_kernel_step(placement, group, draft);
}

}  // namespace kn::cuda
