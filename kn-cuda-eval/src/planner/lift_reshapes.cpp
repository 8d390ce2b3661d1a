#include "planner/lift_reshapes.h"

#include <algorithm>
#include <unordered_set>

namespace kn::cuda {

namespace {

class Lifter {
  public:
    explicit Lifter(const Graph& source) : source_(source), uses_(source.size(), 0), map_(source) {
        for (const Value& value : source.live())
            for (const Value& input : inputs_of(source[value].operation)) uses_[input.index]++;
        for (const NamedValue& output : source.outputs()) uses_[output.value.index] += 2;
    }

    Graph run() {
        out_.share_fresh_symbols(source_);
        for (const NamedValue& input : source_.inputs())
            map_.set(input.value, out_.input(input.name, source_.dtype(input.value),
                                             source_.shape(input.value)));
        for (const Value& value : source_.live()) {
            if (map_.find(value)) continue;
            out_.set_origins(source_[value].origins);
            Operation operation =
                map_inputs(source_[value].operation, [&](Value v) { return map_(v); });
            map_.set(value, lifted(value, operation));
        }
        out_.set_origins({});
        for (const NamedValue& output : source_.outputs())
            out_.output(output.name, map_(output.value));
        for (const Constraint& constraint : source_.constraints()) out_.add_constraint(constraint);
        return std::move(out_);
    }

  private:
    // The Reshape of a product among the operands that nobody else reads.
    std::optional<op::Reshape> product_operand(Value value) const {
        if (!is_elementwise(source_[value].operation)) return std::nullopt;
        for (const Value& input : inputs_of(source_[value].operation)) {
            const auto* reshape = out_.get_if<op::Reshape>(map_(input));
            if (reshape && uses_[input.index] == 1 && products_.count(reshape->x.index))
                return *reshape;
        }
        return std::nullopt;
    }

    // A half of the columns, where both halves and nothing else is read.
    bool is_half(Value value) const {
        const auto* slice = source_.get_if<op::Slice>(value);
        if (!slice || uses_[slice->x.index] != 2) return false;
        const Shape whole = source_.shape(slice->x), part = source_.shape(value);
        for (std::size_t i = 0; i < whole.rank(); i++) {
            const std::int64_t times = i + 1 == whole.rank() ? 2 : 1;
            if (slice->steps[i] != 1 || !(whole[i] == part[i] * times)) return false;
        }
        return true;
    }

    // That half of the product itself.
    std::optional<Value> lifted_half(Value value, const Operation& operation) {
        if (!is_half(value)) return std::nullopt;
        const auto& slice = std::get<op::Slice>(operation);
        const auto* reshape = out_.get_if<op::Reshape>(slice.x);
        const Value product = reshape ? reshape->x : slice.x;
        if (!products_.count(product.index)) return std::nullopt;
        const Shape whole = out_.shape(product);
        if (!(whole.dims().back() == out_.shape(slice.x).dims().back())) return std::nullopt;
        std::vector<Dim> starts(whole.rank(), Dim(0)), dims = whole.dims();
        starts.back() = slice.starts.back();
        dims.back() = source_.shape(value).dims().back();
        const Value half = out_.add(op::Slice{product, starts, Ints(whole.rank(), 1), Shape(dims)});
        products_.insert(half.index);
        return reshape ? out_.add(op::Reshape{half, source_.shape(value)}) : half;
    }

    // The operand at the product's shape. What is repeated along all axes but the last stays so.
    Value reshaped(Value operand, const Shape& shape) {
        const Shape from = out_.shape(operand);
        if (const auto* reshape = out_.get_if<op::Reshape>(operand);
            reshape && out_.shape(reshape->x) == shape)
            return reshape->x;
        if (const auto* broadcast = out_.get_if<op::Broadcast>(operand)) {
            const Value x = broadcast->x;
            const Shape small = out_.shape(x);
            bool along_last = from.dims().back() == shape.dims().back();
            for (std::size_t i = 0; i + 1 < small.rank(); i++)
                along_last = along_last && small[i] == Dim(1);
            if (along_last) {
                std::vector<Dim> row(shape.rank(), Dim(1));
                row.back() = small.dims().back();
                return out_.add(op::Broadcast{out_.add(op::Reshape{x, Shape(row)}), shape});
            }
        }
        return out_.add(op::Reshape{operand, shape});
    }

    Value lifted(Value value, const Operation& operation) {
        if (const auto half = lifted_half(value, operation)) return *half;
        const auto product = product_operand(value);
        if (!product) {
            const Value made = out_.add(operation);
            const bool follows = is_elementwise(operation) &&
                                 std::ranges::any_of(inputs_of(operation), [&](const Value& input) {
                                     return products_.count(input.index) != 0;
                                 });
            if (out_.get_if<op::MatMul>(made) || follows) products_.insert(made.index);
            return made;
        }
        const Shape shape = out_.shape(product->x);
        const Value made = out_.add(map_inputs(operation, [&](Value v) {
            const auto* reshape = out_.get_if<op::Reshape>(v);
            const bool own = reshape && reshape->x == product->x;
            return own ? product->x : reshaped(v, shape);
        }));
        products_.insert(made.index);
        return out_.add(op::Reshape{made, source_.shape(value)});
    }

    const Graph& source_;
    Graph out_;
    std::vector<std::size_t> uses_;
    std::unordered_set<std::uint32_t> products_;  ///< products, and elementwise results of them
    ValueMap map_;
};

}  // namespace

Graph lift_over_reshapes(const Graph& graph) { return Lifter(graph).run(); }

}  // namespace kn::cuda
