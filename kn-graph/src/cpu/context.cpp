#include <algorithm>
#include <cmath>

#include <fmt/core.h>

#include "cpu/frame.h"

namespace kn::cpu {

namespace {

// Below this much work (nanoseconds) waking the other threads costs more than it brings.
constexpr double kSerialWork = 12000;
constexpr double kChunkWork = 4000;

std::string describe(const Array& x) {
    return std::string(name_of(x.dtype())) + Shape::of(x.shape()).to_string();
}

std::string describe(const Type& type) {
    return std::string(name_of(type.dtype)) + type.shape.to_string();
}

/// Calls bind(symbol, value) for the symbols in `types` without a value, as the arrays' shapes
/// decide them.
template <class Bind>
void solve_symbols(const std::vector<Type>& types, const Arrays& arrays, const Bindings& bindings,
                   Bind&& bind) {
    // A symbol may be needed to solve another one's dim: repeat while something new turns up.
    for (bool progress = true; progress;) {
        progress = false;
        for (std::size_t i = 0; i < types.size(); ++i) {
            if (types[i].shape.rank() != arrays[i].rank()) continue;
            for (std::size_t a = 0; a < arrays[i].rank(); ++a) {
                if (types[i].shape[a].is_constant()) continue;
                const Dim dim = types[i].shape[a].substitute(bindings);
                if (dim.is_constant()) continue;
                const auto solution = dim.solve(arrays[i].dim(a));
                if (!solution || bindings.contains(solution->first)) continue;
                bind(solution->first, solution->second);
                progress = true;
            }
        }
    }
}

bool fits(const Type& type, const Array& x, const Bindings& bindings) {
    return type.dtype == x.dtype() && type.shape.rank() == x.rank() &&
           type.shape.eval(bindings) == x.shape();
}

}  // namespace

const Array& EvalContext::operand(Value value) const { return operand_result(value, 0); }

const Array& EvalContext::operand_result(Value value, std::size_t index) const {
    const Arrays& results = frame_.values[value.index];
    KN_CHECK(index < results.size(), fmt::format("%{} has no value", value.index));
    return results[index];
}

Array EvalContext::contiguous(Value value) const {
    const Array& x = operand(value);
    return x.is_contiguous() ? x.view(x.shape(), row_major_strides(x.shape())) : copy(x, *this);
}

std::optional<Array> EvalContext::take(Value value) const {
    Arrays& results = frame_.values[value.index];
    KN_CHECK(!results.empty());
    const auto& dead = frame_.program.dead_after[frame_.step];
    if (frame_.keep_all || std::find(dead.begin(), dead.end(), value.index) == dead.end())
        return std::nullopt;
    const auto inputs = inputs_of((*frame_.program.graph)[value_].operation);
    if (std::count(inputs.begin(), inputs.end(), value) != 1) return std::nullopt;
    if (!results[0].is_exclusive() || !results[0].is_contiguous()) return std::nullopt;
    Array taken = std::move(results[0]);
    return taken.view(taken.shape(), row_major_strides(taken.shape()));
}

std::int64_t EvalContext::eval(const Dim& dim) const { return dim.eval(frame_.bindings); }

Ints EvalContext::eval(const Shape& shape) const { return shape.eval(frame_.bindings); }

Ints EvalContext::eval(const std::vector<Dim>& dims) const {
    Ints values;
    values.reserve(dims.size());
    for (const Dim& dim : dims) values.push_back(dim.eval(frame_.bindings));
    return values;
}

DType EvalContext::result_dtype(std::size_t index) const {
    return (*frame_.program.graph)[value_].results[index].dtype;
}

Ints EvalContext::result_shape(std::size_t index) const {
    Ints shape = eval((*frame_.program.graph)[value_].results[index].shape);
    for (std::int64_t dim : shape)
        if (dim < 0) fail("its shape would be " + Shape::of(shape).to_string());
    return shape;
}

Array EvalContext::allocate(DType dtype, Ints shape) const {
    const std::int64_t size = checked_size(shape);
    if (size > std::int64_t{1} << 58)
        fail("a value of shape " + Shape::of(shape).to_string() + " is too large");
    auto storage = frame_.engine.memory->allocate(static_cast<std::size_t>(size) * size_of(dtype));
    return Array(dtype, std::move(shape), std::move(storage));
}

void EvalContext::bind(const std::string& symbol, std::int64_t value) const {
    if (value < 0) fail(fmt::format("the size '{}' would be {}", printable(symbol), value));
    frame_.bindings[symbol] = value;
    const auto it = frame_.program.constraints.find(symbol);
    if (it == frame_.program.constraints.end()) return;
    for (const Constraint* constraint : it->second) check_constraint(*constraint, frame_.bindings);
}

void EvalContext::bind_results(const std::vector<Type>& types, const Arrays& results) const {
    KN_CHECK(types.size() == results.size());
    solve_symbols(types, results, frame_.bindings,
                  [&](const std::string& symbol, std::int64_t value) { bind(symbol, value); });
    for (std::size_t i = 0; i < types.size(); ++i)
        if (!fits(types[i], results[i], frame_.bindings))
            fail(fmt::format("result {} is {}, expected {}", i, describe(results[i]),
                             describe(types[i])));
}

void EvalContext::parallel(std::int64_t count, double cost,
                           const std::function<void(std::int64_t, std::int64_t)>& body) const {
    ThreadPool& pool = frame_.engine.threads;
    if (count <= 0) return;
    if (pool.threads() == 1 || count == 1 || static_cast<double>(count) * cost < kSerialWork)
        return body(0, count);
    const auto least = static_cast<std::int64_t>(std::ceil(kChunkWork / cost));
    const std::int64_t share = (count + pool.threads() * 4 - 1) / (pool.threads() * 4);
    pool.parallel_for(count, std::max(least, share), body);
}

ThreadPool& EvalContext::threads() const { return frame_.engine.threads; }

const RunOptions& EvalContext::options() const { return frame_.engine.options; }

Arrays EvalContext::run(const std::shared_ptr<const Graph>& body, Arrays inputs) const {
    const auto program = frame_.engine.program(body);
    Frame inner{.engine = frame_.engine,
                .program = *program,
                .bindings = frame_.bindings,
                .values = std::vector<Arrays>(body->size())};
    std::vector<Type> types;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        const Value value = body->inputs()[i].value;
        types.push_back(body->type(value));
        inner.values[value.index] = {inputs[i]};
    }
    solve_symbols(types, inputs, inner.bindings, [&](const std::string& symbol, std::int64_t size) {
        inner.bindings[symbol] = size;
    });
    for (std::size_t i = 0; i < types.size(); ++i)
        if (!fits(types[i], inputs[i], inner.bindings))
            fail(fmt::format("input '{}' of its body is {}, expected {}",
                             printable(body->inputs()[i].name), describe(inputs[i]),
                             describe(types[i])));
    inputs.clear();  // so that operations inside may reuse the memory
    evaluate(inner);
    Arrays outputs;
    for (const NamedValue& output : body->outputs())
        outputs.push_back(inner.values[output.value.index][0]);
    return outputs;
}

void EvalContext::fail(const std::string& message) const {
    const Node& node = (*frame_.program.graph)[value_];
    std::string text = fmt::format("{} %{}", name_of(node.operation), value_.index);
    if (!node.origins.empty()) text += " (" + printable(node.origins[0]) + ")";
    throw GraphError(text + ": " + message);
}

}  // namespace kn::cpu
