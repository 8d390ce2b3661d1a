// Rewriter: what a rule works on. A pass copies the live nodes of a graph, in order, into a new
// graph and offers each to the rules.
//
// A rule gets a value of the new graph, whose operands are final for this pass, and gives another
// value of the same type that computes the same, or nothing. Rules copy the operations that they
// look at: adding a node may move all others.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include <kn/graph/builder.h>
#include <kn/graph/optimizer.h>

namespace kn::optimizer {

/// What lasts over all passes of one call.
struct Session {
    const OptimizeOptions& options;
    /// Constants that rules looked at.
    std::unordered_set<const ConstantData*> frozen;
    std::unordered_map<const ConstantData*, std::shared_ptr<const ConstantData>> frozen_copies;
    std::unordered_map<const Graph*, std::shared_ptr<const Graph>> bodies;
    /// Folded constants without their elements, for use inside recipes.
    std::unordered_map<const ConstantData*, std::shared_ptr<const ConstantData>> stripped;
    /// Keeps the keys above alive.
    std::vector<std::shared_ptr<const void>> keep;
    /// Weights may change: only once all patterns had their chance.
    bool late = false;
};

class Rewriter {
  public:
    Rewriter(Graph& target, Session& shared) : graph(target), session(shared) {}

    Graph& graph;
    Session& session;

    Var var(Value v) { return graph.var(v); }
    const Shape& shape(Value v) const { return graph.shape(v); }
    DType dtype(Value v) const { return graph.dtype(v); }

    /// A copy of the operation, if it is an Op.
    template <class Op>
    std::optional<Op> get(Value v) const {
        const Op* op = graph.get_if<Op>(v);
        return op ? std::optional<Op>(*op) : std::nullopt;
    }
    template <class Op>
    bool is(Value v) const {
        return graph.get_if<Op>(v) != nullptr;
    }

    /// Operands of this operation, whatever their order where it does not matter.
    std::optional<Value> unary(Value v, UnaryOp op) const;
    std::optional<std::pair<Value, Value>> binary(Value v, BinaryOp op) const;

    /// Whether nothing but one operation uses it, as far as the pass can tell.
    bool single_use(Value v) const;

    std::shared_ptr<const ConstantData> constant(Value v) const;
    /// The one number that all elements are, seen through views; only constants of one element are
    /// looked at.
    std::optional<double> uniform(Value v);
    bool is_uniform(Value v, double value) { return uniform(v) == std::optional<double>(value); }
    /// v = op(x, c) with a number c (on either side if the operation commutes): x and c.
    struct WithNumber {
        Value x;
        double number;
    };
    std::optional<WithNumber> with_number(Value v, BinaryOp op);
    /// The rule that is at work looked at these elements.
    void looked_at(const std::shared_ptr<const ConstantData>& data) { looked_at_.push_back(data); }

    /// v with the rules' constant folding applied, so that a rule can build constant expressions
    /// freely.
    Value folded(Value v);

    /// What `make` gives for v, made once in a pass.
    Value stored(Value v, const std::function<Value()>& make) {
        const auto found = stored_.find(v.index);
        return found != stored_.end() ? found->second : stored_[v.index] = make();
    }

    // ---- for the pass ----
    void count_uses(Value v, std::size_t uses) { uses_[v.index] += uses; }
    void start_rule() { looked_at_.clear(); }
    void rule_fired();

  private:
    std::unordered_map<std::uint32_t, std::size_t> uses_;
    std::unordered_map<std::uint32_t, Value> stored_;
    std::vector<std::shared_ptr<const ConstantData>> looked_at_;
};

/// The constant's elements equal `value` as far as a constant of that dtype can tell.
bool is_close(double constant, double value, DType dtype);

/// Numeric factors c and the others of a product, seen through Mul, Div by a number, Neg, Square
/// and Pow(x, 3).
struct Product {
    double number = 1;
    std::vector<Value> factors;
};
Product product_of(Rewriter& r, Value v);

/// The inverse of a permutation.
Ints inverse(const Ints& perm);
/// `shape` with `axes` of size 1.
Shape keep_shape(const Shape& shape, const Ints& axes);

/// Runs of axes of two shapes of the same size that hold the same elements, as short as can be
/// proved.
struct AxisGroup {
    std::size_t from_begin, from_end;
    std::size_t to_begin, to_end;
};
std::optional<std::vector<AxisGroup>> axis_groups(const Shape& from, const Shape& to);

}  // namespace kn::optimizer
