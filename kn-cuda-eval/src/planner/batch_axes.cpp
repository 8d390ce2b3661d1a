#include "planner/batch_axes.h"

#include <algorithm>

namespace kn::cuda {

namespace {

/// Why an operation mixes rows, without its subject.
struct Mixes {
    std::string reason;
};
using Answer = std::variant<BatchUse, Mixes>;

bool contains(const Ints& axes, std::int64_t axis) {
    return std::ranges::find(axes, axis) != axes.end();
}

// The table of operations: how each one treats rows, given the operands' axes of the batch, of
// which at least one is there. What is not listed mixes rows.
class Follower {
  public:
    Follower(const Graph& graph, Value value, const BatchAxes& known)
        : graph_(graph), value_(value), rows_(known.rows) {
        for (const Value& input : inputs_of(graph[value].operation)) {
            const auto& use = known.uses[input.index];
            in_.push_back(use ? Axis(use->axis) : std::nullopt);
        }
    }

    Answer operator()(const op::Unary&) const { return side_by_side(); }
    Answer operator()(const op::Binary&) const { return side_by_side(); }
    Answer operator()(const op::Select&) const { return side_by_side(); }
    Answer operator()(const op::Cast&) const { return side_by_side(); }
    Answer operator()(const op::BitCast&) const { return side_by_side(); }
    Answer operator()(const op::Result&) const { return side_by_side(); }
    Answer operator()(const op::Broadcast&) const { return side_by_side(); }
    Answer operator()(const op::Reshape& o) const { return reshaped(o); }
    Answer operator()(const op::Permute& o) const {
        const auto at = std::ranges::find(o.perm, *in_[0]);
        return BatchUse{at - o.perm.begin(), in_};
    }
    Answer operator()(const op::Slice& o) const {
        const auto axis = static_cast<std::size_t>(*in_[0]);
        const bool whole = o.starts[axis] == Dim(0) && o.steps[axis] == 1 &&
                           o.shape[axis] == graph_.shape(o.x)[axis];
        if (!whole) return Mixes{"takes some rows of the batch"};
        return side_by_side();
    }
    Answer operator()(const op::Window& o) const {
        return apart_from(o.axes, "has windows over the batch");
    }
    Answer operator()(const op::Concat& o) const {
        return apart_from({o.axis}, "joins values along the batch");
    }
    Answer operator()(const op::Pad& o) const {
        if (o.value && in_[1]) return Mixes{"pads with a value of the batch"};
        const auto axis = static_cast<std::size_t>(*in_[0]);
        if (!(o.before[axis] == Dim(0) && o.after[axis] == Dim(0))) return Mixes{"pads the batch"};
        return BatchUse{*in_[0], in_};
    }
    Answer operator()(const op::Gather& o) const {
        if (in_[0] && in_[1]) return Mixes{"gathers from the batch by indices of the batch"};
        if (in_[1]) return BatchUse{o.axis + *in_[1], in_};
        if (*in_[0] == o.axis) return Mixes{"gathers along the batch"};
        const auto added = static_cast<std::int64_t>(graph_.shape(o.indices).rank()) - 1;
        return BatchUse{*in_[0] < o.axis ? *in_[0] : *in_[0] + added, in_};
    }
    Answer operator()(const op::GatherElements& o) const {
        return same_extents(o.axis, "gathers along the batch");
    }
    Answer operator()(const op::ScatterElements& o) const {
        return same_extents(o.axis, "scatters along the batch");
    }
    Answer operator()(const op::Reduce& o) const {
        return removed(o.axes, "reduces over the batch");
    }
    Answer operator()(const op::ArgReduce& o) const {
        return removed({o.axis}, "reduces over the batch");
    }
    Answer operator()(const op::Cumulative& o) const {
        return apart_from({o.axis}, "sums up along the batch");
    }
    Answer operator()(const op::TopK& o) const { return apart_from({o.axis}, "sorts the batch"); }
    Answer operator()(const op::Softmax& o) const {
        return apart_from({o.axis}, "normalises over the batch");
    }
    Answer operator()(const op::Norm& o) const {
        return apart_from(o.axes, "normalises over the batch");
    }
    Answer operator()(const op::Dft& o) const {
        const auto last = static_cast<std::int64_t>(graph_.shape(o.x).rank()) - 1;
        return apart_from({o.axis, last}, "transforms the batch");
    }
    Answer operator()(const op::Resize& o) const { return apart_from(o.axes, "resizes the batch"); }
    Answer operator()(const op::MatMul&) const { return product(); }
    Answer operator()(const op::Conv&) const { return images(); }
    Answer operator()(const op::ConvTranspose&) const { return images(); }
    Answer operator()(const op::GridSample&) const {
        return first_axis("has the batch in an image");
    }
    Answer operator()(const op::Attention& o) const {
        Answer answer = first_axis("attends across the batch");
        if (auto* use = std::get_if<BatchUse>(&answer); use && o.mask)
            if (graph_.shape(*o.mask)[0] == Dim(1)) use->operands[3] = std::nullopt;
        return answer;
    }
    template <class Op>
    Answer operator()(const Op&) const {
        return Mixes{"is not known to keep rows of the batch apart"};
    }

  private:
    // The batch's axis if all operands that have one agree.
    Axis common() const {
        Axis axis;
        for (const Axis& operand : in_) {
            if (operand && axis && *operand != *axis) return std::nullopt;
            if (operand) axis = operand;
        }
        return axis;
    }
    Answer side_by_side() const { return apart_from({}, ""); }
    // The same axis of all operands and the result, none of those over which rows meet.
    Answer apart_from(const Ints& meeting, const std::string& reason) const {
        const Axis axis = common();
        if (!axis) return Mixes{"has the batch along different axes of its operands"};
        if (contains(meeting, *axis)) return Mixes{reason};
        return BatchUse{*axis, std::vector<Axis>(in_.size(), axis)};
    }
    Answer removed(const Ints& axes, const std::string& reason) const {
        if (contains(axes, *in_[0])) return Mixes{reason};
        const auto before = std::ranges::count_if(axes, [&](auto a) { return a < *in_[0]; });
        return BatchUse{*in_[0] - before, in_};
    }
    Answer same_extents(std::int64_t along, const std::string& reason) const {
        Answer answer = apart_from({along}, reason);
        if (const auto* use = std::get_if<BatchUse>(&answer)) {
            const auto axis = static_cast<std::size_t>(use->axis);
            for (const Value& input : inputs_of(graph_[value_].operation))
                if (!(graph_.shape(input)[axis] == graph_.shape(value_)[axis]))
                    return Mixes{"takes some rows of the batch"};
        }
        return answer;
    }
    Answer first_axis(const std::string& reason) const {
        const Axis axis = common();
        if (axis != 0) return Mixes{reason};
        return BatchUse{0, std::vector<Axis>(in_.size(), axis)};
    }
    Answer images() const {
        if (in_[1]) return Mixes{"has filters of the batch"};
        if (*in_[0] != 0) return Mixes{"has the batch in an image"};
        return BatchUse{0, in_};
    }
    Answer product() const {
        const auto rank = static_cast<std::int64_t>(graph_.shape(value_).rank());
        const std::int64_t rows = rank - 2, columns = rank - 1;
        if (const Axis axis = common(); axis && *axis < rows) return BatchUse{*axis, {axis, axis}};
        if (in_[0] && in_[1]) return Mixes{"multiplies rows of the batch with each other"};
        if (in_[0] == columns || in_[1] == rows) return Mixes{"sums over the batch"};
        return BatchUse{in_[0] ? *in_[0] : *in_[1], in_};
    }
    // Runs stay runs where as many elements precede the axis; zero sizes have none.
    Answer reshaped(const op::Reshape& o) const {
        const Shape& from = graph_.shape(o.x);
        if (from.size() == Dim(0)) return Mixes{"has no elements"};
        std::int64_t before = 1, passed = 1;
        for (std::int64_t i = 0; i < *in_[0]; i++)
            before *= from[static_cast<std::size_t>(i)].value();
        for (std::size_t i = 0; i < o.shape.rank(); i++) {
            const std::int64_t extent = o.shape[i].value();
            if (passed == before && extent != 1) {
                if (extent % rows_ != 0) break;
                return BatchUse{static_cast<std::int64_t>(i), in_};
            }
            passed *= extent;
        }
        return Mixes{"spreads the batch over several axes"};
    }

    const Graph& graph_;
    Value value_;
    std::int64_t rows_;
    std::vector<Axis> in_;
};

std::string described(const Graph& graph, Value value) {
    const Node& node = graph[value];
    std::string out =
        "%" + std::to_string(value.index) + " " + std::string(name_of(node.operation));
    return node.origins.empty() ? out : out + " " + printable(node.origins.front());
}

// Inputs whose first axis has this size hold the batch.
BatchAxes follow(const Graph& graph, std::int64_t rows) {
    BatchAxes out{rows, std::vector<std::optional<BatchUse>>(graph.size()), ""};
    for (const Value& value : graph.live()) {
        const Shape& shape = graph.shape(value);
        if (graph.get_if<op::Input>(value)) {
            if (shape.rank() > 0 && shape[0] == Dim(rows)) out.uses[value.index] = BatchUse{};
            continue;
        }
        const Operation& operation = graph[value].operation;
        if (std::ranges::none_of(inputs_of(operation), [&](const Value& input) {
                return out.uses[input.index].has_value();
            }))
            continue;
        const Follower follower(graph, value, out);
        const Answer answer = std::visit(follower, operation);
        if (const auto* mixes = std::get_if<Mixes>(&answer)) {
            out.why_not = described(graph, value) + " " + mixes->reason;
            return out;
        }
        out.uses[value.index] = std::get<BatchUse>(answer);
    }
    for (const NamedValue& output : graph.outputs())
        if (!out.uses[output.value.index]) {
            out.why_not = "output " + printable(output.name) + " is the same for all rows";
            return out;
        }
    return out;
}

}  // namespace

BatchAxes batch_axes(const Graph& graph) {
    BatchAxes first;
    first.why_not = "no input has a first axis of several rows";
    std::vector<std::int64_t> tried;
    for (const NamedValue& input : graph.inputs()) {
        const Shape& shape = graph.shape(input.value);
        const std::int64_t rows = shape.rank() == 0 ? 1 : shape[0].value();
        if (rows < 2 || contains(tried, rows)) continue;
        BatchAxes axes = follow(graph, rows);
        if (axes.why_not.empty()) return axes;
        if (tried.empty()) first = std::move(axes);
        tried.push_back(rows);
    }
    return first;
}

}  // namespace kn::cuda
