#include "planner/batch_slices.h"

#include <algorithm>

namespace kn::cuda {

namespace {

class Slicer {
  public:
    Slicer(const Graph& source, const BatchAxes& axes, std::int64_t count)
        : source_(source), axes_(axes), count_(count), shared_(source), slice_map_(source) {}

    Slices run() {
        out_.share_fresh_symbols(source_);
        for (const NamedValue& input : source_.inputs())
            shared_.set(input.value, out_.input(input.name, source_.dtype(input.value),
                                                source_.shape(input.value)));
        const std::vector<Value> live = source_.live();
        for (const Value& value : live)
            if (!use(value) && !shared_.find(value)) add_shared(value);
        std::vector<std::uint32_t> first;
        std::vector<op::Concat> joined;
        for (const NamedValue& output : source_.outputs())
            joined.push_back({{}, use(output.value)->axis});
        for (slice_ = 0; slice_ < count_; slice_++) {
            first.push_back(static_cast<std::uint32_t>(out_.size()));
            slice_map_ = ValueMap(source_);
            for (const Value& value : live)
                if (use(value)) slice_map_.set(value, of_slice(value));
            for (std::size_t i = 0; i < joined.size(); i++)
                joined[i].inputs.push_back(slice_map_(source_.outputs()[i].value));
        }
        first.push_back(static_cast<std::uint32_t>(out_.size()));
        for (std::size_t i = 0; i < joined.size(); i++) {
            const NamedValue& output = source_.outputs()[i];
            out_.set_origins(source_[output.value].origins);
            out_.output(output.name, out_.add(std::move(joined[i])));
        }
        out_.set_origins({});
        for (const Constraint& constraint : source_.constraints()) out_.add_constraint(constraint);
        return {std::move(out_), std::move(first)};
    }

  private:
    const std::optional<BatchUse>& use(Value value) const { return axes_.uses[value.index]; }

    void add_shared(Value value) {
        const Node& node = source_[value];
        out_.set_origins(node.origins);
        shared_.set(value,
                    out_.add(map_inputs(node.operation, [&](Value v) { return shared_(v); })));
    }

    Shape cut(Shape shape, std::int64_t axis) const {
        Dim& extent = shape[static_cast<std::size_t>(axis)];
        KN_CHECK(extent.value() % count_ == 0);
        extent = extent.value() / count_;
        return shape;
    }

    // This slice's part, along the axis, of a value that is there as a whole. What is repeated
    // along the axis is the same in all slices.
    Value part(Value value, std::int64_t axis) {
        const Value whole = shared_(value);
        const Shape shape = cut(source_.shape(value), axis);
        const auto at = static_cast<std::size_t>(axis);
        if (const auto* broadcast = out_.get_if<op::Broadcast>(whole);
            broadcast && out_.shape(broadcast->x)[at] == Dim(1))
            return out_.add(op::Broadcast{broadcast->x, shape});
        std::vector<Dim> starts(shape.rank(), Dim(0));
        starts[at] = slice_ * shape[at].value();
        return out_.add(op::Slice{whole, starts, Ints(shape.rank(), 1), shape});
    }

    Value operand(Value value, const Axis& wanted) {
        if (!wanted) return shared_(value);
        return use(value) ? slice_map_(value) : part(value, *wanted);
    }

    Value of_slice(Value value) {
        const Node& node = source_[value];
        const BatchUse& batch = *use(value);
        out_.set_origins(node.origins);
        if (std::holds_alternative<op::Input>(node.operation)) return part(value, batch.axis);
        std::size_t i = 0;
        Operation operation =
            map_inputs(node.operation, [&](Value v) { return operand(v, batch.operands.at(i++)); });
        const Shape shape = cut(source_.shape(value), batch.axis);
        if (auto* reshape = std::get_if<op::Reshape>(&operation)) reshape->shape = shape;
        if (auto* broadcast = std::get_if<op::Broadcast>(&operation)) broadcast->shape = shape;
        if (auto* slice = std::get_if<op::Slice>(&operation)) slice->shape = shape;
        const Value made = out_.add(std::move(operation));
        KN_CHECK(out_.shape(made) == shape,
                 "a slice of " + out_.shape(made).to_string() + " instead of " + shape.to_string());
        return made;
    }

    const Graph& source_;
    const BatchAxes& axes_;
    std::int64_t count_, slice_ = 0;
    Graph out_;
    ValueMap shared_, slice_map_;
};

}  // namespace

std::int64_t Slices::count() const {
    return first.empty() ? 1 : static_cast<std::int64_t>(first.size()) - 1;
}

std::size_t Slices::slice_of(Value value) const {
    if (first.empty() || value.index >= first.back()) return 0;
    return static_cast<std::size_t>(std::ranges::upper_bound(first, value.index) - first.begin());
}

Slices in_slices(const Graph& graph, const BatchAxes& axes, std::int64_t count) {
    KN_CHECK(axes.why_not.empty() && count > 0 && axes.rows % count == 0);
    return Slicer(graph, axes, count).run();
}

}  // namespace kn::cuda
