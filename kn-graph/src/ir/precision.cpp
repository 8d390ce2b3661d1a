#include <kn/graph/precision.h>

#include <algorithm>
#include <unordered_set>

namespace kn {

namespace {

// A constant in another type, remembering how it came about.
Value cast_constant(Graph& graph, const std::shared_ptr<const ConstantData>& data, DType dtype) {
    auto out = std::make_shared<ConstantData>();
    out->tensor = data->tensor.cast_later(dtype);
    out->frozen = data->frozen;
    out->recipe = std::make_shared<const ConstantData::Recipe>(
        ConstantData::Recipe{op::Cast{Value{0, 0}, dtype}, {data}});
    return graph.constant(std::move(out));
}

Value as(Graph& graph, Value value, DType dtype) {
    if (graph.dtype(value) == dtype) return value;
    if (const auto* constant = graph.get_if<op::Constant>(value))
        return cast_constant(graph, constant->data, dtype);
    return graph.add(op::Cast{value, dtype});
}

// ---- everything in double ----

std::shared_ptr<const Graph> body_to_f64(const std::shared_ptr<const Graph>& body);

Operation results_to_f64(Operation operation) {
    const auto widen = [](std::vector<Type>& types) {
        for (Type& type : types)
            if (is_float(type.dtype)) type.dtype = DType::F64;
    };
    if (auto* branch = std::get_if<op::If>(&operation)) {
        branch->then_body = body_to_f64(branch->then_body);
        branch->else_body = body_to_f64(branch->else_body);
        widen(branch->results);
    }
    if (auto* loop = std::get_if<op::Loop>(&operation)) {
        loop->body = body_to_f64(loop->body);
        widen(loop->results);
    }
    if (auto* cast = std::get_if<op::Cast>(&operation); cast && is_float(cast->dtype))
        cast->dtype = DType::F64;
    return operation;
}

// `edge`: whether inputs keep their types (the network's own) or are double too (a body's).
void rewrite_to_f64(const Graph& source, Graph& target, bool edge) {
    ValueMap map(source);
    for (const Value& value : source.live()) {
        const Node& node = source[value];
        target.set_origins(node.origins);
        if (const auto* input = std::get_if<op::Input>(&node.operation)) {
            const DType inside = is_float(input->dtype) ? DType::F64 : input->dtype;
            const Var in = target.input(input->name, edge ? input->dtype : inside, input->shape);
            map.set(value, as(target, in, inside));
            continue;
        }
        if (const auto* constant = std::get_if<op::Constant>(&node.operation)) {
            const Value same = target.constant(constant->data);
            map.set(value, is_float(target.dtype(same)) ? as(target, same, DType::F64) : same);
            continue;
        }
        const auto* bits = std::get_if<op::BitCast>(&node.operation);
        if (bits && is_float(source.dtype(
                        bits->x)))  // the bits asked for are those of the type that the model names
            map.set(value, target.add(op::BitCast{as(target, map(bits->x), source.dtype(bits->x)),
                                                  bits->dtype}));
        else
            map.set(value, target.add(map_inputs(results_to_f64(node.operation),
                                                 [&](Value v) { return map(v); })));
        if (bits && is_float(bits->dtype)) map.set(value, as(target, map(value), DType::F64));
    }
    target.set_origins({});
    for (const NamedValue& output : source.outputs()) target.output(output.name, map(output.value));
}

std::shared_ptr<const Graph> body_to_f64(const std::shared_ptr<const Graph>& body) {
    auto out = std::make_shared<Graph>();
    out->share_fresh_symbols(*body);
    rewrite_to_f64(*body, *out, false);
    return out;
}

// ---- halves ----

bool is_risky(const op::Unary& op) {
    switch (op.op) {
        case UnaryOp::Exp:
        case UnaryOp::Expm1:
        case UnaryOp::Log:
        case UnaryOp::Log1p:
        case UnaryOp::Square:
        case UnaryOp::Reciprocal:
        case UnaryOp::Rsqrt:
        case UnaryOp::Sqrt:
        case UnaryOp::Sin:
        case UnaryOp::Cos:
        case UnaryOp::Tan:
        case UnaryOp::Sinh:
        case UnaryOp::Cosh: return true;
        default: return false;
    }
}
bool is_risky(const op::Binary& op) {
    return op.op == BinaryOp::Pow || op.op == BinaryOp::Fmod || op.op == BinaryOp::Mod;
}
bool is_risky(const op::Reduce& op) { return op.op != ReduceOp::Max && op.op != ReduceOp::Min; }
bool is_risky(const op::Cumulative&) { return true; }
bool is_risky(const op::Dft&) { return true; }
bool is_risky(const op::If&) { return true; }
bool is_risky(const op::Loop&) { return true; }
template <class Op>
bool is_risky(const Op&) {
    return false;
}

template <class Op, class... Ops>
constexpr bool is_one_of = (std::is_same_v<Op, Ops> || ...);

template <class Op>
constexpr bool wants_half =
    is_one_of<Op, op::MatMul, op::Conv, op::ConvTranspose, op::Attention, op::Recurrent>;

class HalfLowering {
  public:
    HalfLowering(const Graph& source, Graph& target, DType half)
        : source_(source), target_(target), half_(half), map_(source) {
        find_quantizers();
    }

    void run() {
        for (const Value& value : source_.live()) {
            target_.set_origins(source_[value].origins);
            map_.set(value, lower(value));
        }
        target_.set_origins({});
        for (const NamedValue& output : source_.outputs())
            target_.output(output.name,
                           as(target_, map_(output.value), source_.dtype(output.value)));
    }

  private:
    bool is_constant(Value value) const { return target_.get_if<op::Constant>(value) != nullptr; }

    // What becomes an integer by elementwise steps, scales of quantisation among it: half a step of
    // rounding would be a whole step there.
    void find_quantizers() {
        const std::vector<Value> live = source_.live();
        for (auto value = live.rbegin(); value != live.rend(); ++value) {
            const Operation& operation = source_[*value].operation;
            const auto* cast = std::get_if<op::Cast>(&operation);
            const bool rounds = cast && is_float(source_.dtype(cast->x)) && is_int(cast->dtype);
            const bool passes = std::visit(
                []<class Op>(const Op&) {
                    return is_one_of<Op, op::Unary, op::Binary, op::Select, op::Reduce, op::Reshape,
                                     op::Permute, op::Broadcast, op::Slice>;
                },
                operation);
            if (!rounds && !(passes && quantizers_.count(value->index))) continue;
            for (const Value& input : inputs_of(operation)) quantizers_.insert(input.index);
        }
    }

    Value lower(Value value) {
        const Operation& operation = source_[value].operation;
        if (const auto* input = std::get_if<op::Input>(&operation)) {
            const Var in = target_.input(input->name, input->dtype, input->shape);
            return input->dtype == DType::F32 ? as(target_, in, half_) : in.value;
        }
        if (const auto* constant = std::get_if<op::Constant>(&operation))
            return target_.constant(constant->data);
        if (const auto* bits = std::get_if<op::BitCast>(&operation))
            return target_.add(
                op::BitCast{as(target_, map_(bits->x), source_.dtype(bits->x)), bits->dtype});
        if (const auto* cast = std::get_if<op::Cast>(&operation)) return lower_cast(*cast);
        const std::optional<DType> floats = float_type(value);
        return target_.add(map_inputs(operation, [&](Value v) {
            const bool is_f32 = source_.dtype(v) == DType::F32;
            return is_f32 && floats ? as(target_, map_(v), *floats) : map_(v);
        }));
    }

    // A cast to float32 of a half is the model's own wish; from integers it begins a float32 chain.
    Value lower_cast(const op::Cast& cast) {
        const Value x = map_(cast.x);
        if (source_.dtype(cast.x) == DType::F32 && cast.dtype == DType::F32) return x;
        return as(target_, x, cast.dtype);
    }

    // What the float32 operands of this operation become.
    std::optional<DType> float_type(Value value) const {
        const Operation& operation = source_[value].operation;
        return std::visit(
            [&](const auto& op) -> std::optional<DType> {
                using Op = std::decay_t<decltype(op)>;
                if constexpr (std::is_same_v<Op, std::monostate>) {
                    return std::nullopt;
                } else {
                    if (is_risky(op)) return DType::F32;
                    if constexpr (wants_half<Op>) return half_;
                    if (quantizers_.count(value.index)) return DType::F32;
                }
                // Others follow their operands; constants follow the others.
                bool any_half = false, any_f32 = false;
                for (const Value& v : inputs_of(operation)) {
                    if (source_.dtype(v) != DType::F32 || is_constant(map_(v))) continue;
                    (target_.dtype(map_(v)) == half_ ? any_half : any_f32) = true;
                }
                // A gather out of a table of weights is an embedding: activations begin there.
                if constexpr (std::is_same_v<Op, op::Gather>)
                    if (is_constant(map_(op.x)) &&
                        !std::holds_alternative<op::Constant>(target_[map_(op.indices)].operation))
                        return half_;
                if (any_half) return half_;
                return DType::F32;
            },
            operation);
    }

    const Graph& source_;
    Graph& target_;
    DType half_;
    ValueMap map_;
    std::unordered_set<std::uint32_t> quantizers_;
};

}  // namespace

Graph to_precision(const Graph& graph, DType dtype) {
    if (dtype == DType::F32) return graph.bind({});
    Graph out;
    out.share_fresh_symbols(graph);
    if (dtype == DType::F64)
        rewrite_to_f64(graph, out, true);
    else if (is_half(dtype))
        HalfLowering(graph, out, dtype).run();
    else
        throw GraphError("to_precision: " + std::string(name_of(dtype)) +
                         " is no precision for a network");
    for (const Constraint& constraint : graph.constraints()) out.add_constraint(constraint);
    return out;
}

}  // namespace kn
