#include "planner/merge_products.h"

#include <map>
#include <optional>
#include <tuple>
#include <unordered_map>
#include <unordered_set>

namespace kn::cuda {

std::vector<std::shared_ptr<const ConstantData>> constant_parts(const Graph& graph, Value value) {
    if (const auto* constant = graph.get_if<op::Constant>(value)) return {constant->data};
    const auto* concat = graph.get_if<op::Concat>(value);
    if (!concat) return {};
    std::vector<std::shared_ptr<const ConstantData>> parts;
    for (const Value& input : concat->inputs) {
        const auto* part = graph.get_if<op::Constant>(input);
        if (!part) return {};
        parts.push_back(part->data);
    }
    return parts;
}

bool is_weight(const Graph& graph, Value value) {
    const auto* permute = graph.get_if<op::Permute>(value);
    return !constant_parts(graph, permute ? permute->x : value).empty();
}

namespace {

/// x w, with what may follow it: a Reshape that splits the rows, and a bias along the columns.
struct Product {
    Value matmul;
    Value weight;               ///< a constant: w, or its transpose
    Value last;                 ///< of the pattern: what the merged product's columns replace
    Shape split;                ///< the Reshape's result without its last dim, if there is a bias
    std::optional<Value> bias;  ///< of the rank of the sum; 1 in all dims but the last
};

class Merger {
  public:
    explicit Merger(const Graph& source) : source_(source), users_(source.size()), map_(source) {
        for (const Value& value : source.live())
            for (const Value& input : inputs_of(source[value].operation))
                users_[input.index].push_back(value);
        for (const NamedValue& output : source.outputs()) outputs_.insert(output.value.index);
        find_groups();
    }

    Graph run() {
        target_.share_fresh_symbols(source_);
        for (const Value& value : source_.live()) copy(value);
        for (const NamedValue& output : source_.outputs())
            target_.output(output.name, map_(output.value));
        for (const Constraint& constraint : source_.constraints())
            target_.add_constraint(constraint);
        return std::move(target_);
    }

  private:
    std::optional<Value> only_user(Value value) const {
        const auto& users = users_[value.index];
        if (users.size() != 1 || outputs_.count(value.index)) return std::nullopt;
        return users[0];
    }

    /// The vector that a value is along its last axis, repeated along all others.
    std::optional<Value> vector_of(Value value) const {
        const auto* broadcast = source_.get_if<op::Broadcast>(value);
        if (!broadcast || !source_.get_if<op::Constant>(broadcast->x)) return std::nullopt;
        const Shape& small = source_.shape(broadcast->x);
        for (std::size_t axis = 0; axis + 1 < small.rank(); axis++)
            if (!(small[axis] == 1)) return std::nullopt;
        const Dim columns = source_.shape(value).dims().back();
        if (!(small.dims().back() == columns)) return std::nullopt;
        return broadcast->x;
    }

    /// What w is a transpose of, if it is one.
    std::optional<Value> transposed(Value w) const {
        const auto* permute = source_.get_if<op::Permute>(w);
        if (!permute || permute->perm != Ints{1, 0}) return std::nullopt;
        return permute->x;
    }

    Product product_at(Value matmul, Value weight) const {
        Product plain{matmul, weight, matmul, {}, std::nullopt};
        Value end = matmul;
        auto user = only_user(end);
        if (const auto* reshape = user ? source_.get_if<op::Reshape>(*user) : nullptr) {
            if (!(reshape->shape.rank() > 0 &&
                  reshape->shape.dims().back() == source_.shape(matmul).dims().back()))
                return plain;
            end = *user;
            user = only_user(end);
        }
        const auto* sum = user ? source_.get_if<op::Binary>(*user) : nullptr;
        if (!sum || sum->op != BinaryOp::Add) return plain;
        const auto bias = vector_of(sum->a == end ? sum->b : sum->a);
        if (!bias) return plain;
        std::vector<Dim> split = source_.shape(end).dims();
        split.pop_back();
        return {matmul, weight, *user, Shape(split), bias};
    }

    void find_groups() {
        using Key = std::tuple<std::uint32_t, DType, bool>;  // x, type, whether w is a transpose
        std::map<Key, std::vector<Product>> by_operand;
        for (const Value& value : source_.live()) {
            const auto* matmul = source_.get_if<op::MatMul>(value);
            if (!matmul || source_.shape(value).rank() != 2) continue;
            const auto transpose = transposed(matmul->b);
            const Value weight = transpose.value_or(matmul->b);
            if (!source_.get_if<op::Constant>(weight)) continue;
            by_operand[{matmul->a.index, source_.dtype(value), transpose.has_value()}].push_back(
                product_at(value, weight));
        }
        for (auto& [key, products] : by_operand) {
            if (products.size() < 2) continue;
            bool biases = true;
            for (const Product& product : products)
                biases = biases && product.bias && product.split == products[0].split;
            if (!biases)
                for (Product& product : products)
                    product = {product.matmul, product.weight, product.matmul, {}, std::nullopt};
            for (const Product& product : products) group_of_[product.last.index] = groups_.size();
            groups_.push_back(std::move(products));
        }
    }

    Value copy(Value value) {
        if (const auto done = map_.find(value)) return *done;
        if (const auto group = group_of_.find(value.index); group != group_of_.end()) {
            merge(groups_[group->second]);
            return map_(value);
        }
        const Node& node = source_[value];
        target_.set_origins(node.origins);
        Operation operation = map_inputs(node.operation, [&](Value v) { return copy(v); });
        const auto* input = std::get_if<op::Input>(&operation);
        const Value made = input ? target_.input(input->name, input->dtype, input->shape).value
                                 : target_.add(std::move(operation));
        map_.set(value, made);
        return made;
    }

    void merge(const std::vector<Product>& products) {
        const auto& first = *source_.get_if<op::MatMul>(products[0].matmul);
        const Value x = copy(first.a);
        const bool transpose = transposed(first.b).has_value();
        op::Concat weights{{}, transpose ? 0 : 1}, biases{{}, 0};
        std::vector<std::string> origins;
        for (const Product& product : products) {
            weights.inputs.push_back(copy(product.weight));
            const auto& own = source_[product.last].origins;
            origins.insert(origins.end(), own.begin(), own.end());
            if (!product.bias) continue;
            biases.inputs.push_back(copy(*product.bias));
            biases.axis = static_cast<std::int64_t>(product.split.rank());
        }
        target_.set_origins(origins);
        Value w = target_.add(std::move(weights));
        if (transpose) w = target_.add(op::Permute{w, {1, 0}});
        Value y = target_.add(op::MatMul{x, w});
        if (!biases.inputs.empty()) y = with_bias(y, target_.add(std::move(biases)), products[0]);
        take_apart(y, products);
    }

    Value with_bias(Value y, Value bias, const Product& like) {
        std::vector<Dim> dims = like.split.dims();
        dims.push_back(target_.shape(y).dims().back());
        const Shape shape(dims);
        y = target_.add(op::Reshape{y, shape});
        return target_.add(op::Binary{BinaryOp::Add, y, target_.add(op::Broadcast{bias, shape})});
    }

    void take_apart(Value y, const std::vector<Product>& products) {
        Dim start = 0;
        for (const Product& product : products) {
            const Shape shape = source_.shape(product.last);
            std::vector<Dim> starts(shape.rank(), Dim(0));
            starts.back() = start;
            map_.set(product.last, target_.add(op::Slice{y, starts, Ints(shape.rank(), 1), shape}));
            start = start + shape.dims().back();
        }
    }

    const Graph& source_;
    Graph target_;
    std::vector<std::vector<Value>> users_;
    std::unordered_set<std::uint32_t> outputs_;
    std::vector<std::vector<Product>> groups_;
    std::unordered_map<std::uint32_t, std::size_t> group_of_;
    ValueMap map_;
};

}  // namespace

Graph merge_products(const Graph& graph) { return Merger(graph).run(); }

}  // namespace kn::cuda
