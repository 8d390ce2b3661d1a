#include <algorithm>

#include <fmt/core.h>

#include "codegen/emit.h"

namespace kn::cuda {

namespace {

/// Index arithmetic needs 64 bits: something in memory has this many elements.
bool needs_wide(const Placement& placement) {
    const auto& buffers = const_cast<Placement&>(placement).plan().buffers;
    return std::any_of(buffers.begin(), buffers.end(),
                       [](const Buffer& b) { return b.bytes >= std::size_t{1} << 31; });
}

}  // namespace

Emitter::Emitter(const Placement& placement, Code& code, KernelOperands& operands)
    : placement_(placement), code_(code), operands_(operands), math_(code, needs_wide(placement)) {
    memo_.emplace_back();
    levels_.push_back(code.level());
}

void Emitter::computes(const std::vector<Value>& values) {
    for (const Value& value : values) computed_.push_back(value.index);
}

void Emitter::set_lanes(int lanes) {
    lanes_ = lanes;
    if (lanes > 1) {
        math_.set_lane("j", lanes);
        math_.variable("j", lanes);
    }
}

void Emitter::push_scope() {
    memo_.emplace_back();
    levels_.push_back(code_.level());
    math_.push_scope(code_.level());
}

void Emitter::pop_scope() {
    memo_.pop_back();
    levels_.pop_back();
    math_.pop_scope();
}

void Emitter::in_scope(std::size_t scope, const std::function<void()>& body) {
    if (scope + 1 >= memo_.size()) return body();
    const auto cut = [&](auto& list) {
        using List = std::decay_t<decltype(list)>;
        const auto at = list.begin() + static_cast<std::ptrdiff_t>(scope + 1);
        List rest(std::make_move_iterator(at), std::make_move_iterator(list.end()));
        list.erase(at, list.end());
        return rest;
    };
    const auto paste = [](auto& list, auto& rest) {
        list.insert(list.end(), std::make_move_iterator(rest.begin()),
                    std::make_move_iterator(rest.end()));
    };
    auto memo = cut(memo_);
    auto levels = cut(levels_);
    auto scopes = cut(math_.scopes());
    code_.enter(levels_.back());
    body();
    code_.leave();
    paste(memo_, memo);
    paste(levels_, levels);
    paste(math_.scopes(), scopes);
}

void Emitter::provide(Value value, std::function<std::string(const Index&)> get) {
    provided_[value.index] = std::move(get);
}

std::string Emitter::lane_loop(const std::string& statement) const {
    return fmt::format("KN_UNROLL for (int j = 0; j < {}; ++j) {}", lanes_, statement);
}

std::string Emitter::define(const std::string& type, const std::string& expression) {
    const std::string name = code_.fresh("v");
    if (!varies(expression)) {
        code_.line(fmt::format("const {} {} = {};", type, name, expression));
        return name;
    }
    code_.line(fmt::format("{} {}[{}];", type, name, lanes_));
    code_.line(lane_loop(fmt::format("{}[j] = {};", name, expression)));
    return name + "[j]";
}

std::string Emitter::declare(const std::string& type, const std::string& start) {
    const std::string name = code_.fresh("v");
    if (lanes_ == 1) {
        code_.line(fmt::format("{} {} = {};", type, name, start));
        return name;
    }
    code_.line(fmt::format("{} {}[{}];", type, name, lanes_));
    code_.line(lane_loop(fmt::format("{}[j] = {};", name, start)));
    return name + "[j]";
}

void Emitter::assign(const std::string& variable, const std::string& expression) {
    const std::string statement = fmt::format("{} = {};", variable, expression);
    code_.line(varies(statement) ? lane_loop(statement) : statement);
}

std::string Emitter::open_loop(std::int64_t extent) {
    const std::string name = code_.fresh("k");
    code_.open(fmt::format("for ({0} {1} = 0; {1} < {2}; ++{1})", math_.type(), name, extent));
    push_scope();
    return math_.variable(name, extent);
}

void Emitter::close_loop() {
    pop_scope();
    code_.close();
}

void Emitter::open_branch(const std::string& condition) {
    const bool varying = varies(condition);
    code_.open(varying ? "" : fmt::format("if ({})", condition));
    push_scope();
    branches_.push_back({guard_, varying ? condition : ""});
    if (varying) guard_ = guard_.empty() ? condition : fmt::format("{} && {}", guard_, condition);
}

void Emitter::close_branch() {
    guard_ = branches_.back().outer_guard;
    branches_.pop_back();
    pop_scope();
    code_.close();
}

void Emitter::assign_in_branch(const std::string& variable, const std::string& expression) {
    const std::string& condition = branches_.back().lane_condition;
    assign(variable, condition.empty()
                         ? expression
                         : fmt::format("{} ? {} : {}", condition, expression, variable));
}

namespace {

/// Accesses are as wide as their alignment, so they have a power of two of elements.
bool whole_vectors(int lanes) { return lanes > 1 && (lanes & (lanes - 1)) == 0; }

}  // namespace

std::string Emitter::ahead(const std::string& type, const std::string& offset,
                           const std::string& read) {
    if (!ahead_ || !branches_.empty()) return read;
    const auto part = math_.part(offset, ahead_->variable);
    if (!part || math_.scope_of(part->rest) > ahead_->scope) return read;
    const std::string name = code_.fresh("a");
    in_scope(ahead_->scope, [&] {
        if (part->factor == 0)
            return code_.line(fmt::format("const {} {} = {};", type, name, read));
        code_.line(fmt::format("{} {}[{}];", type, name, ahead_->trips));
        code_.open(fmt::format("KN_UNROLL for (int {0} = 0; {0} < {1}; ++{0})", ahead_->counter,
                               ahead_->trips));
        code_.line(ahead_->definition);
        code_.line(fmt::format("{}[{}] = {};", name, ahead_->counter, read));
        code_.close();
    });
    return part->factor == 0 ? name : fmt::format("{}[{}]", name, ahead_->counter);
}

std::string Emitter::load(const TensorRef& tensor, const Index& index, const std::string& role) {
    const std::string pointer = operands_.pointer(tensor, Access::Read, role);
    const std::string offset = math_.dot(index, tensor.strides);
    const std::string type = compute_type(tensor.dtype), element = c_type(tensor.dtype);
    loads_.push_back({checked_size(tensor.shape), pointer, offset, size_of(tensor.dtype)});
    const std::string guard = math_.depends(offset) ? guard_ : "";
    const auto part = math_.part(offset, "j");
    const bool vector = whole_vectors(lanes_) && part && part->factor == 1 &&
                        part->granularity % lanes_ == 0 && tensor.offset % lanes_ == 0 &&
                        !varies(guard);
    if (!vector) {
        std::string read = fmt::format("kn_widen({}[{}])", pointer, offset);
        if (guard.empty() && !varies(offset)) read = ahead(type, offset, read);
        return define(type,
                      guard.empty() ? read : fmt::format("{} ? {} : ({})0", guard, read, type));
    }
    const std::string name = code_.fresh("u");
    const std::string vector_type = fmt::format("kn_vector<{}, {}>", element, lanes_);
    std::string read =
        fmt::format("{}((const {}*)({} + ({})))", reader_, vector_type, pointer, part->rest);
    if (guard.empty()) {
        read = ahead(vector_type, part->rest, read);
        code_.line(fmt::format("const {} {} = {};", vector_type, name, read));
    } else {
        code_.line(fmt::format("{} {} = {{}};", vector_type, name));
        code_.line(fmt::format("if ({}) {} = {};", guard, name, read));
    }
    return define(type, fmt::format("kn_widen({}.lane[j])", name));
}

std::string as_stored(const TensorRef& tensor, const std::string& variable) {
    if (tensor.rounded_to_tf32) return fmt::format("kn_rounded_tf32({})", variable);
    if (!is_half(tensor.dtype)) return variable;
    return fmt::format("kn_cast<{}>({})", c_type(tensor.dtype), variable);
}

void Emitter::store(Value value, const Index& index, const std::string& variable) {
    store(placement_.stored(value), index, variable);
}

void Emitter::store(const TensorRef& tensor, const Index& index, const std::string& variable) {
    const std::string pointer = operands_.pointer(tensor, Access::Write, "y");
    const std::string offset = math_.dot(index, tensor.strides);
    const std::string type = c_type(tensor.dtype), element = as_stored(tensor, variable);
    const auto part = math_.part(offset, "j");
    const std::string guard = guard_.empty() ? "" : fmt::format("if ({}) ", guard_);
    if (whole_vectors(lanes_) && varies(offset) && part && part->factor == 1 &&
        part->granularity % lanes_ == 0 && tensor.offset % lanes_ == 0 && !varies(guard)) {
        const std::string vector = code_.fresh("u");
        code_.line(fmt::format("kn_vector<{}, {}> {};", type, lanes_, vector));
        code_.line(lane_loop(fmt::format("{}.lane[j] = {};", vector, element)));
        code_.line(fmt::format("{}*(kn_vector<{}, {}>*)({} + ({})) = {};", guard, type, lanes_,
                               pointer, part->rest, vector));
        return;
    }
    const std::string statement = fmt::format("{}{}[{}] = {};", guard, pointer, offset, element);
    code_.line(varies(statement) ? lane_loop(statement) : statement);
}

std::string Emitter::value(Value value, const Index& index) {
    // Texts of equal meaning are equal texts, mostly.
    const auto key = std::pair(value.index, index);
    for (auto scope = memo_.rbegin(); scope != memo_.rend(); ++scope)
        if (auto found = scope->find(key); found != scope->end()) return found->second;
    std::string result = compute(value, index);
    memo_.back()[key] = result;
    return result;
}

std::string Emitter::compute(Value value, const Index& index) {
    if (auto found = provided_.find(value.index); found != provided_.end())
        return found->second(index);
    return compute_inline(value, index);
}

std::string Emitter::compute_inline(Value value, const Index& index) {
    const Operation& operation = graph()[value].operation;
    if (const auto* constant = std::get_if<op::Constant>(&operation))
        return emit(*constant, value, index);
    const bool own = std::find(computed_.begin(), computed_.end(), value.index) != computed_.end();
    if (!own && placement_.is_stored(value)) return load(placement_.stored(value), index, "x");
    return std::visit(
        [&](const auto& op) -> std::string {
            if constexpr (std::is_same_v<std::decay_t<decltype(op)>, std::monostate>)
                KN_CHECK(false);
            else
                return emit(op, value, index);
            return {};
        },
        operation);
}

template <class Op>
std::string Emitter::emit(const Op&, Value result, const Index&) {
    throw GraphError(fmt::format("%{} {} cannot be computed inside a kernel", result.index,
                                 name_of(graph()[result].operation)));
}

std::optional<std::string> Emitter::why_not_inline(const Graph& graph, Value value) {
    return std::visit(
        [&]<class Op>(const Op&) -> std::optional<std::string> {
            using namespace op;
            constexpr bool stored_only =
                std::is_same_v<Op, Input> || std::is_same_v<Op, ReadDims> ||
                std::is_same_v<Op, NonZero> || std::is_same_v<Op, Result> ||
                std::is_same_v<Op, ScatterElements> || std::is_same_v<Op, ScatterNd> ||
                std::is_same_v<Op, Cumulative> || std::is_same_v<Op, TopK> ||
                std::is_same_v<Op, ConvTranspose> || std::is_same_v<Op, Attention> ||
                std::is_same_v<Op, Resize> || std::is_same_v<Op, GridSample> ||
                std::is_same_v<Op, Recurrent> || std::is_same_v<Op, Dft> ||
                std::is_same_v<Op, If> || std::is_same_v<Op, Loop> ||
                std::is_same_v<Op, std::monostate>;
            if constexpr (stored_only)
                return std::string(name_of(graph[value].operation)) +
                       " is no operation on single elements";
            else
                return std::nullopt;
        },
        graph[value].operation);
}

}  // namespace kn::cuda
