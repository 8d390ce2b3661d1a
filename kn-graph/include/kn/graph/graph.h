// Graph: an append-only SSA graph of operations, and Var, a value that knows its graph, for writing
// networks in code.
//
//     kn::Graph g;
//     kn::Var x = g.input("x", kn::DType::F32, {kn::Dim::symbol("batch"), 64});
//     kn::Var w = g.constant(weights);
//     g.output("y", kn::relu(kn::matmul(x, w)));            // kn/graph/builder.h
//     std::cout << g.to_string();
//
// Not thread-safe while it is being built; any number of threads may read a finished graph.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include <kn/graph/error.h>
#include <kn/graph/ops.h>

namespace kn {

/// A value together with its graph. The Graph object must stay where it is while its Vars are in
/// use. What `shape` refers to may move when the graph grows.
struct Var {
    Graph* graph = nullptr;
    Value value;
    operator Value() const { return value; }
    KN_API const Shape& shape() const;
    KN_API DType dtype() const;
    KN_API std::size_t rank() const;
};

/// An input or output of a graph.
struct NamedValue {
    std::string name;
    Value value;
};

/// Something that could not be proved when a shape was inferred and that `bind` checks.
struct Constraint {
    enum class Kind {
        Equal,        ///< a == b
        Broadcast,    ///< a == b, or one of them is 1
        NotNegative,  ///< a >= 0
    };
    Kind kind;
    Dim a;
    Dim b;
    std::string origin;  ///< what demands it
    bool operator==(const Constraint&) const = default;
};

/// One operation of a graph.
struct Node {
    Operation operation;
    std::vector<Type> results;         ///< at least one
    std::vector<std::string> origins;  ///< names of the ONNX nodes that it stems from
};

class KN_API Graph {
  public:
    Graph();
    Graph(Graph&& other) noexcept;
    Graph& operator=(Graph&& other) noexcept;
    ~Graph();
    Graph(const Graph&) = delete;
    Graph& operator=(const Graph&) = delete;
    /// A copy; the values of this graph are values of the copy too, as long as neither grows.
    Graph clone() const;
    /// Makes room for that many nodes in all, before many are added one by one.
    void reserve(std::size_t nodes);

    /// The one way in. Infers the type, checks the operands (GraphError names operation, origin and
    /// reason), and gives the value that already computes the same, if there is one.
    [[nodiscard]] Value add(Operation operation);
    /// Result `index` of an operation with several (0: the operation's own value).
    [[nodiscard]] Value result(Value source, std::size_t index);

    /// Appends an input; names are unique, else GraphError.
    Var input(const std::string& name, DType dtype, Shape shape);
    /// Shares the tensor's elements. `name`: under which the weight may be exchanged later.
    Var constant(Tensor tensor, std::string name = {});
    Var constant(std::shared_ptr<const ConstantData> data);
    /// Appends an output; names and values may be there already.
    void output(std::string name, Value value);
    void set_outputs(std::vector<NamedValue> outputs);

    Var var(Value value) { return {this, value}; }

    const std::vector<NamedValue>& inputs() const { return inputs_; }
    const std::vector<NamedValue>& outputs() const { return outputs_; }
    std::optional<Value> find_input(const std::string& name) const;

    /// Nodes, whether an output needs them or not.
    std::size_t size() const { return nodes_.size(); }
    /// Node number i in the order of construction (operands come before).
    Value value_at(std::size_t index) const { return {static_cast<std::uint32_t>(index), id_}; }
    /// This and the references below hold until the graph grows. GraphError for a value of another
    /// graph.
    const Node& operator[](Value value) const;
    const Type& type(Value value) const { return (*this)[value].results[0]; }
    const Shape& shape(Value value) const { return type(value).shape; }
    DType dtype(Value value) const { return type(value).dtype; }
    /// The operation if it is an Op, else null.
    template <class Op>
    const Op* get_if(Value value) const {
        return std::get_if<Op>(&(*this)[value].operation);
    }

    /// Operations added from now on are said to stem from this ONNX node; empty: from none.
    void set_origins(std::vector<std::string> origins) { current_origins_ = std::move(origins); }
    const std::vector<std::string>& current_origins() const { return current_origins_; }
    void add_origins(Value value, const std::vector<std::string>& origins);

    /// Records what must hold of dims as a constraint, unless it is proved; throws GraphError with
    /// `what` where it is false.
    void require_equal(const Dim& a, const Dim& b, const std::string& what);
    void require_not_negative(const Dim& a, const std::string& what);
    /// The common dim of a broadcast, with its constraint.
    Dim broadcast(const Dim& a, const Dim& b, const std::string& what);
    void add_constraint(Constraint constraint);
    const std::vector<Constraint>& constraints() const { return constraints_; }
    /// Takes back all constraints but the first `count`.
    void truncate_constraints(std::size_t count) {
        constraints_.erase(constraints_.begin() + static_cast<std::ptrdiff_t>(count),
                           constraints_.end());
    }

    /// A symbol name that this graph (and those it was made from) does not use yet: "prefix_N".
    std::string fresh_symbol(const std::string& prefix);
    /// Lets this graph (a body) and `other` never give the same fresh name.
    void share_fresh_symbols(const Graph& other);
    /// All symbols of the graph inputs' shapes.
    std::vector<std::string> input_symbols() const;
    /// Symbols that operations bind at run time, each with its value.
    const std::unordered_map<std::string, Value>& run_time_symbols() const {
        return run_time_symbols_;
    }

    /// Values needed for the outputs, in order; those that bind needed symbols are among them.
    /// Inputs are always in it.
    std::vector<Value> live() const;

    /// Gives each symbol of `bindings` its value: a new graph with the constants shared. Checks
    /// every constraint; GraphError names the one that fails, with its origin, and symbols that do
    /// not exist. Symbols not named stay.
    Graph bind(const Bindings& bindings) const;
    /// The values that the input dims must have for these shapes, in the order of inputs();
    /// GraphError names the input that does not fit.
    Bindings infer_bindings(const std::vector<Ints>& shapes) const;

    /// One line a node: `%3 = Conv(x=%1, ...) : f32[batch, 64, 56, 56]  # /conv1/Conv`.
    std::string to_string() const;
    /// Graphviz text of the same.
    std::string to_dot() const;

    /// Throws InternalError if the graph breaks a rule of its own (operand order, recorded types).
    void verify() const;

  private:
    void check(Value value) const;
    std::string describe_origin() const;
    Value append(Operation operation, std::vector<Type> results, std::size_t hash);

    std::uint32_t id_;
    std::vector<Node> nodes_;
    std::unordered_multimap<std::size_t, std::uint32_t> by_hash_;
    std::vector<NamedValue> inputs_;
    std::vector<NamedValue> outputs_;
    std::vector<Constraint> constraints_;
    std::unordered_map<std::string, Value> run_time_symbols_;
    std::vector<std::string> current_origins_;
    std::shared_ptr<std::size_t> fresh_counter_;
};

/// The symbols in the sizes and types that a node mentions.
KN_API std::set<std::string> symbols_of(const Node& node);

/// A map from the values of one graph to those of another.
class KN_API ValueMap {
  public:
    explicit ValueMap(const Graph& from);
    void set(Value from, Value to);
    /// Throws InternalError if there is none.
    Value operator()(Value from) const;
    std::optional<Value> find(Value from) const;

  private:
    std::vector<std::optional<Value>> map_;
};

/// Copies what `source` needs for its outputs into `target`, in place of its inputs the values
/// given; returns its outputs. Shapes are inferred anew, so the inputs' types may differ from the
/// source's, as long as they fit. Symbols may be replaced by `symbols`.
KN_API std::vector<Value> call(Graph& target, const Graph& source, const std::vector<Value>& inputs,
                               const std::map<std::string, Dim>& symbols = {});

/// A graph of its own that computes `outputs` from `inputs`, which are values of `graph`; other
/// graph inputs it needs stay inputs.
KN_API Graph extract(const Graph& graph, const std::vector<NamedValue>& inputs,
                     const std::vector<NamedValue>& outputs);

}  // namespace kn
