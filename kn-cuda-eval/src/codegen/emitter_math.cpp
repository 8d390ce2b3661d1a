// Arithmetic: elementwise operations, and reductions and products as loops in the thread.
#include <algorithm>

#include <fmt/core.h>

#include "codegen/emit.h"

namespace kn::cuda {

namespace {

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

/// A row's expression over these operands.
std::string paste(std::string_view expression, const std::string& x, const std::string& a,
                  const std::string& b) {
    std::string result;
    for (std::size_t i = 0; i < expression.size();) {
        if (!is_word(expression[i])) {
            result += expression[i++];
            continue;
        }
        std::size_t end = i;
        while (end < expression.size() && is_word(expression[end])) ++end;
        const std::string_view word = expression.substr(i, end - i);
        if (word == "x")
            result += x;
        else if (word == "a")
            result += a;
        else if (word == "b")
            result += b;
        else
            result += word;
        i = end;
    }
    return result;
}

/// What is enough where the result is rounded to a half type.
std::string_view half_expression(UnaryOp op) {
    switch (op) {
        case UnaryOp::Sigmoid: return "kn_sigmoid_half(x)";
        case UnaryOp::Silu: return "kn_silu_half(x)";
        case UnaryOp::Gelu: return "kn_gelu_half(x)";
        case UnaryOp::GeluTanh: return "kn_gelu_tanh_half(x)";
        default: return row_of(op).expression;
    }
}

/// Whether a small change of the operand may change the result by much.
bool is_step(UnaryOp op) {
    switch (op) {
        case UnaryOp::Sign:
        case UnaryOp::Floor:
        case UnaryOp::Ceil:
        case UnaryOp::Round:
        case UnaryOp::Trunc: return true;
        default: return false;
    }
}
bool is_step(BinaryOp op) {
    switch (op) {
        case BinaryOp::Mod:
        case BinaryOp::Fmod:
        case BinaryOp::Equal:
        case BinaryOp::Less:
        case BinaryOp::LessEqual: return true;
        default: return false;
    }
}

}  // namespace

std::string reduce_type(ReduceOp op) {
    switch (op) {
        case ReduceOp::Sum:
        case ReduceOp::Mean: return "kn_op_sum";
        case ReduceOp::Prod: return "kn_op_prod";
        case ReduceOp::Max: return "kn_op_max";
        case ReduceOp::Min: return "kn_op_min";
    }
    return {};
}

std::string Emitter::rounded(Value x, const Index& index) {
    std::string variable = value(x, index);
    const DType dtype = graph().dtype(x);
    if (!is_half(dtype)) return variable;
    const Operation& operation = graph()[x].operation;
    const bool arithmetic = std::holds_alternative<op::Unary>(operation) ||
                            std::holds_alternative<op::Binary>(operation) ||
                            std::holds_alternative<op::Reduce>(operation) ||
                            std::holds_alternative<op::Norm>(operation) ||
                            std::holds_alternative<op::Softmax>(operation) ||
                            provided_.count(x.index) != 0;
    const bool own = std::find(computed_.begin(), computed_.end(), x.index) != computed_.end();
    if (!arithmetic || (placement_.is_stored(x) && !own)) return variable;
    return define("float", fmt::format("kn_widen(kn_cast<{}>({}))", c_type(dtype), variable));
}

std::string Emitter::emit(const op::Unary& op, Value result, const Index& index) {
    const std::string x = is_step(op.op) ? rounded(op.x, index) : value(op.x, index);
    const DType dtype = graph().dtype(result);
    const auto text = is_half(dtype) ? half_expression(op.op) : row_of(op.op).expression;
    return define(compute_type(dtype), paste(text, x, {}, {}));
}

std::string Emitter::emit(const op::Binary& op, Value result, const Index& index) {
    const bool step = is_step(op.op);
    const std::string a = step ? rounded(op.a, index) : value(op.a, index);
    const std::string b = step ? rounded(op.b, index) : value(op.b, index);
    return define(compute_type(graph().dtype(result)), paste(row_of(op.op).expression, {}, a, b));
}

std::string Emitter::emit(const op::Select& op, Value result, const Index& index) {
    const std::string condition = value(op.condition, index);
    const std::string a = value(op.a, index), b = value(op.b, index);
    return define(compute_type(graph().dtype(result)),
                  fmt::format("{} ? {} : {}", condition, a, b));
}

std::string Emitter::emit(const op::Cast& op, Value, const Index& index) {
    const std::string x = is_float(op.dtype) ? value(op.x, index) : rounded(op.x, index);
    if (graph().dtype(op.x) == op.dtype) return x;
    std::string text = fmt::format("kn_cast<{}>({})", c_type(op.dtype), x);
    if (is_half(op.dtype)) text = fmt::format("kn_widen({})", text);
    return define(compute_type(op.dtype), text);
}

std::string Emitter::emit(const op::BitCast& op, Value, const Index& index) {
    const DType from = graph().dtype(op.x);
    std::string text = value(op.x, index);
    if (is_half(from)) text = fmt::format("kn_cast<{}>({})", c_type(from), text);
    text = fmt::format("kn_bit_cast<{}, {}>({})", c_type(op.dtype), c_type(from), text);
    if (is_half(op.dtype)) text = fmt::format("kn_widen({})", text);
    return define(compute_type(op.dtype), text);
}

std::string Emitter::emit(const op::Reduce& op, Value, const Index& index) {
    const Ints from = shape(op.x);
    const DType dtype = graph().dtype(op.x);
    const std::string type = compute_type(dtype), reduce = reduce_type(op.op);
    const std::string total = declare(type, fmt::format("{}::start<{}>()", reduce, type));
    Index inner(from.size());
    std::size_t kept = 0, depth = 0;
    std::int64_t count = 1;
    for (std::size_t i = 0; i < from.size(); ++i) {
        const auto axis = static_cast<std::int64_t>(i);
        if (std::find(op.axes.begin(), op.axes.end(), axis) == op.axes.end()) {
            inner[i] = index[kept++];
        } else if (from[i] == 1) {
            inner[i] = "0";
        } else {
            inner[i] = open_loop(from[i]);
            count *= from[i];
            ++depth;
        }
    }
    if (count > 0)
        assign(total, fmt::format("{}::join({}, {})", reduce, total, value(op.x, inner)));
    for (; depth > 0; --depth) close_loop();
    if (op.op == ReduceOp::Mean)
        return define(type, fmt::format("{} / ({}){}", total, type, count));
    return total;
}

std::string Emitter::emit(const op::ArgReduce& op, Value, const Index& index) {
    const auto axis = static_cast<std::size_t>(op.axis);
    const std::string type = compute_type(graph().dtype(op.x));
    Index inner = index;
    inner.insert(inner.begin() + static_cast<std::ptrdiff_t>(axis), "0");
    const std::string best = declare("long long", "0ll");
    const std::string most = declare(type, rounded(op.x, inner));
    const std::int64_t extent = shape(op.x)[axis];
    if (extent == 1) return best;
    inner[axis] = open_loop(extent);
    const std::string x = rounded(op.x, inner);
    const std::string better =
        define("bool",
               fmt::format("!({} {} {} || {} != {}) && ({} != {} || {})", x, op.largest ? "<" : ">",
                           most, most, most, x, most, op.last ? "true" : "false"));
    assign(best, fmt::format("{} ? (long long)({}) : {}", better, inner[axis], best));
    assign(most, fmt::format("{} ? {} : {}", better, x, most));
    close_loop();
    return best;
}

std::string Emitter::emit(const op::MatMul& op, Value, const Index& index) {
    const std::string type = compute_type(graph().dtype(op.a));
    const std::string total = declare(type, fmt::format("({})0", type));
    Index a = index, b = index;
    const std::int64_t extent = shape(op.a).back();
    if (extent == 0) return total;
    const std::string k = open_loop(extent);
    a.back() = k;
    b[b.size() - 2] = k;
    const std::string x = value(op.a, a), y = value(op.b, b);
    assign(total, fmt::format("kn_add({}, kn_mul({}, {}))", total, x, y));
    close_loop();
    return total;
}

std::string Emitter::emit(const op::Conv& op, Value, const Index& index) {
    const std::string type = compute_type(graph().dtype(op.x));
    const std::string total = declare(type, fmt::format("({})0", type));
    const Ints x_shape = shape(op.x), w_shape = shape(op.w);
    if (checked_size(w_shape) == 0 || checked_size(x_shape) == 0) return total;
    Index x(x_shape.size()), w(w_shape.size());
    x[0] = index[0];
    w[0] = index[1];
    const std::string group = math_.div(index[1], w_shape[0] / op.groups);
    w[1] = open_loop(w_shape[1]);
    x[1] = math_.add(math_.mul(group, w_shape[1]), w[1]);
    std::size_t depth = 1;
    std::string condition;
    for (std::size_t i = 2; i < x.size(); ++i) {
        w[i] = open_loop(w_shape[i]);
        ++depth;
        x[i] = math_.add(
            math_.add(math_.mul(index[i], op.strides[i - 2]), math_.mul(w[i], op.dilations[i - 2])),
            -op.pads_before[i - 2].value());
        const std::string term = inside(x[i], 0, x_shape[i]);
        if (!term.empty()) condition += (condition.empty() ? "" : " && ") + term;
    }
    if (!condition.empty()) open_branch(condition);
    for (std::size_t i = 2; i < x.size(); ++i) x[i] = math_.define(x[i], x_shape[i]);
    const std::string a = value(op.x, x), b = value(op.w, w);
    const std::string sum = fmt::format("kn_add({}, kn_mul({}, {}))", total, a, b);
    if (condition.empty())
        assign(total, sum);
    else
        assign_in_branch(total, sum);
    if (!condition.empty()) close_branch();
    for (; depth > 0; --depth) close_loop();
    return total;
}

std::string Emitter::emit(const op::Norm& op, Value result, const Index& index) {
    const Ints from = shape(op.x);
    const std::string type = compute_type(graph().dtype(op.x));
    std::int64_t count = 1;
    const auto over_axes = [&](const std::string& start, auto&& body) {
        const std::string total = declare(type, start);
        Index inner = index;
        for (const std::int64_t axis : op.axes)
            inner[static_cast<std::size_t>(axis)] = open_loop(from[static_cast<std::size_t>(axis)]);
        assign(total, fmt::format("{} + {}", total, body(value(op.x, inner))));
        for (std::size_t i = 0; i < op.axes.size(); ++i) close_loop();
        return total;
    };
    for (const std::int64_t axis : op.axes) count *= from[static_cast<std::size_t>(axis)];
    const std::string zero = fmt::format("({})0", type);
    std::string mean = zero;
    if (op.kind == NormKind::MeanVariance)
        mean = define(type, fmt::format("{} / ({}){}",
                                        over_axes(zero, [](const std::string& x) { return x; }),
                                        type, count));
    const std::string squares = over_axes(zero, [&](const std::string& x) {
        return fmt::format("({0} - {1}) * ({0} - {1})", x, mean);
    });
    const std::string x = value(op.x, index);
    return define(compute_type(graph().dtype(result)),
                  fmt::format("({} - {}) / sqrt({} / ({}){} + {})", x, mean, squares, type, count,
                              literal(graph().dtype(op.x) == DType::F64 ? DType::F64 : DType::F32,
                                      op.epsilon)));
}

std::string Emitter::emit(const op::Softmax& op, Value, const Index& index) {
    const auto axis = static_cast<std::size_t>(op.axis);
    const std::string type = compute_type(graph().dtype(op.x));
    const std::int64_t extent = shape(op.x)[axis];
    Index inner = index;
    const std::string most = declare(type, fmt::format("kn_lowest<{}>()", type));
    inner[axis] = open_loop(extent);
    assign(most, fmt::format("kn_max({}, {})", most, value(op.x, inner)));
    close_loop();
    const std::string total = declare(type, fmt::format("({})0", type));
    inner[axis] = open_loop(extent);
    assign(total, fmt::format("{} + exp({} - {})", total, value(op.x, inner), most));
    close_loop();
    const std::string x = value(op.x, index);
    if (op.log) return define(type, fmt::format("({} - {}) - log({})", x, most, total));
    return define(type, fmt::format("exp({} - {}) / {}", x, most, total));
}

}  // namespace kn::cuda
