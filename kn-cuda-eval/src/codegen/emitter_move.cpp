// Data movement as index arithmetic.
#include <algorithm>

#include <fmt/core.h>

#include "codegen/emit.h"

namespace kn::cuda {

namespace {

std::string parenthesized(const std::string& text) { return "(" + text + ")"; }

}  // namespace

std::string Emitter::inside(const std::string& index, std::int64_t low, std::int64_t high) {
    const auto range = math_.range(index);
    std::string text = index;
    // Whether a group of lanes is inside is one question where the bounds are at its edges.
    if (varies(index)) {
        const auto part = math_.part(index, "j");
        if (part && part->factor == 1 && part->granularity % lanes_ == 0 && low % lanes_ == 0 &&
            high % lanes_ == 0)
            text = part->rest;
    }
    std::string result;
    if (!range || range->first < low) result = fmt::format("{} >= {}", parenthesized(text), low);
    if (!range || range->second >= high) {
        if (!result.empty()) result += " && ";
        result += fmt::format("{} < {}", parenthesized(text), high);
    }
    return result;
}

std::string Emitter::emit(const op::Reshape& op, Value result, const Index& index) {
    const Ints from = shape(op.x), to = shape(result);
    // Runs of axes with as many elements on both sides are renumbered on their own.
    Index inner(from.size(), "0");
    std::size_t i = 0, j = 0;
    while (i < from.size() || j < to.size()) {
        std::size_t i_end = i, j_end = j;
        std::int64_t size_from = 1, size_to = 1;
        if (i_end < from.size()) size_from = from[i_end++];
        if (j_end < to.size()) size_to = to[j_end++];
        while (size_from != size_to) {
            if (size_from < size_to && i_end < from.size())
                size_from *= from[i_end++];
            else if (j_end < to.size())
                size_to *= to[j_end++];
            else
                size_from *= from[i_end++];
        }
        const Ints from_run(from.begin() + static_cast<std::ptrdiff_t>(i),
                            from.begin() + static_cast<std::ptrdiff_t>(i_end));
        const Ints to_run(to.begin() + static_cast<std::ptrdiff_t>(j),
                          to.begin() + static_cast<std::ptrdiff_t>(j_end));
        const Index to_index(index.begin() + static_cast<std::ptrdiff_t>(j),
                             index.begin() + static_cast<std::ptrdiff_t>(j_end));
        const Index digits = math_.split(math_.join(to_index, to_run), from_run);
        std::copy(digits.begin(), digits.end(), inner.begin() + static_cast<std::ptrdiff_t>(i));
        i = i_end;
        j = j_end;
    }
    return value(op.x, inner);
}

std::string Emitter::emit(const op::Permute& op, Value, const Index& index) {
    Index inner(index.size());
    for (std::size_t i = 0; i < index.size(); ++i)
        inner[static_cast<std::size_t>(op.perm[i])] = index[i];
    return value(op.x, inner);
}

std::string Emitter::emit(const op::Broadcast& op, Value, const Index& index) {
    const Ints from = shape(op.x);
    Index inner = index;
    for (std::size_t i = 0; i < from.size(); ++i)
        if (from[i] == 1) inner[i] = "0";
    return value(op.x, inner);
}

std::string Emitter::emit(const op::Slice& op, Value, const Index& index) {
    Index inner(index.size());
    for (std::size_t i = 0; i < index.size(); ++i)
        inner[i] = math_.add(math_.mul(index[i], op.steps[i]), op.starts[i].value());
    return value(op.x, inner);
}

std::string Emitter::emit(const op::Window& op, Value, const Index& index) {
    const std::size_t rank = index.size() - op.axes.size();
    Index inner(index.begin(), index.begin() + static_cast<std::ptrdiff_t>(rank));
    for (std::size_t j = 0; j < op.axes.size(); ++j) {
        auto& at = inner[static_cast<std::size_t>(op.axes[j])];
        at = math_.add(math_.mul(at, op.strides[j]), math_.mul(index[rank + j], op.dilations[j]));
    }
    return value(op.x, inner);
}

std::string Emitter::emit(const op::Concat& op, Value result, const Index& index) {
    const auto axis = static_cast<std::size_t>(op.axis);
    const auto range = math_.range(index[axis]);
    struct Part {
        Value x;
        std::int64_t start, size;
    };
    std::vector<Part> parts;  // that the index can be in
    std::int64_t start = 0;
    for (const Value& x : op.inputs) {
        const std::int64_t size = shape(x)[axis];
        if (size > 0 && (!range || (range->second >= start && range->first < start + size)))
            parts.push_back({x, start, size});
        start += size;
    }
    const auto read = [&](const Part& part) {
        Index inner = index;
        inner[axis] = math_.add(index[axis], -part.start);
        // Inside the branch the range is known, which the text does not say.
        if (parts.size() > 1 && !varies(inner[axis]))
            inner[axis] = math_.define(inner[axis], part.size);
        return value(part.x, inner);
    };
    if (parts.size() == 1) return read(parts[0]);
    const std::string type = compute_type(graph().dtype(result));
    const std::string variable = declare(type, fmt::format("{}(0)", "(" + type + ")"));
    for (const Part& part : parts) {
        open_branch(inside(index[axis], part.start, part.start + part.size));
        assign_in_branch(variable, read(part));
        close_branch();
    }
    return variable;
}

std::string Emitter::emit(const op::Pad& op, Value result, const Index& index) {
    const Ints from = shape(op.x);
    Index inner(index.size());
    std::string condition;
    for (std::size_t i = 0; i < index.size(); ++i) {
        const std::int64_t before = op.before[i].value(), size = from[i];
        inner[i] = math_.add(index[i], -before);
        if (before == 0 && op.after[i].value() == 0) continue;
        if (size == 0) continue;  // Constant only
        const std::string at = parenthesized(inner[i]);
        switch (op.mode) {
            case PadMode::Constant: {
                const std::string term = inside(inner[i], 0, size);
                if (!term.empty()) condition += (condition.empty() ? "" : " && ") + term;
                break;
            }
            case PadMode::Edge:
                inner[i] = math_.define(
                    fmt::format("{0} < 0 ? 0 : {0} >= {1} ? {2} : {0}", at, size, size - 1), size);
                break;
            case PadMode::Reflect:
                inner[i] = math_.define(fmt::format("{0} < 0 ? -{0} : {0} >= {1} ? {2} - {0} : {0}",
                                                    at, size, 2 * size - 2),
                                        size);
                break;
            case PadMode::Wrap: {
                const std::int64_t shift = (before + size - 1) / size * size;
                inner[i] = math_.mod(math_.add(inner[i], shift), size);
                break;
            }
        }
    }
    if (op.mode != PadMode::Constant) return value(op.x, inner);
    const std::string type = compute_type(graph().dtype(result));
    const std::string fill = op.value ? value(*op.value, {}) : fmt::format("({})0", type);
    if (checked_size(from) == 0) return fill;
    if (condition.empty()) return value(op.x, inner);
    const std::string variable = declare(type, fill);
    open_branch(condition);
    for (std::size_t i = 0; i < index.size(); ++i)
        if (inner[i] != index[i] && !varies(inner[i])) inner[i] = math_.define(inner[i], from[i]);
    assign_in_branch(variable, value(op.x, inner));
    close_branch();
    return variable;
}

std::string Emitter::gathered(Value indices, const Index& index, std::int64_t extent) {
    const std::string element = value(indices, index);
    return math_.define(fmt::format("kn_index<{}>({}, {})", math_.type(), element, extent), extent);
}

std::string Emitter::emit(const op::Gather& op, Value, const Index& index) {
    const auto axis = static_cast<std::ptrdiff_t>(op.axis);
    const auto rank = static_cast<std::ptrdiff_t>(graph().shape(op.indices).rank());
    const Index position(index.begin() + axis, index.begin() + axis + rank);
    Index inner(index.begin(), index.begin() + axis);
    inner.push_back(gathered(op.indices, position, shape(op.x)[static_cast<std::size_t>(op.axis)]));
    inner.insert(inner.end(), index.begin() + axis + rank, index.end());
    return value(op.x, inner);
}

std::string Emitter::emit(const op::GatherElements& op, Value, const Index& index) {
    const auto axis = static_cast<std::size_t>(op.axis);
    Index inner = index;
    inner[axis] = gathered(op.indices, index, shape(op.x)[axis]);
    return value(op.x, inner);
}

std::string Emitter::emit(const op::GatherNd& op, Value, const Index& index) {
    const Ints from = shape(op.x), positions = shape(op.indices);
    const auto batch = static_cast<std::size_t>(op.batch_dims);
    const std::size_t lead = positions.size() - 1;
    const auto count = static_cast<std::size_t>(positions.back());
    Index inner(index.begin(), index.begin() + static_cast<std::ptrdiff_t>(batch));
    Index at(index.begin(), index.begin() + static_cast<std::ptrdiff_t>(lead));
    at.emplace_back();
    for (std::size_t i = 0; i < count; ++i) {
        at.back() = std::to_string(i);
        inner.push_back(gathered(op.indices, at, from[batch + i]));
    }
    inner.insert(inner.end(), index.begin() + static_cast<std::ptrdiff_t>(lead), index.end());
    return value(op.x, inner);
}

std::string Emitter::emit(const op::Constant& op, Value result, const Index& index) {
    const Tensor& tensor = op.data->tensor;
    if (tensor.size() == 1) return literal(tensor, 0);
    Ints strides(tensor.rank(), 1);
    std::int64_t position = 0;
    bool known = tensor.size() > 0;
    for (std::size_t i = tensor.rank(); i-- > 0;) {
        if (i + 1 < tensor.rank()) strides[i] = strides[i + 1] * tensor.shape()[i + 1];
        const auto at = math_.constant(index[i]);
        known = known && at.has_value();
        if (known) position += *at * strides[i];
    }
    if (known && position < tensor.size()) return literal(tensor, position);
    return load(placement_.stored(result), index, "constant");
}

std::string Emitter::emit(const op::ShapeValue& op, Value result, const Index& index) {
    const std::string position = math_.join(index, shape(result));
    if (const auto at = math_.constant(position))
        return fmt::format("{}ll", op.dims[static_cast<std::size_t>(*at)].value());
    std::string text = fmt::format("{}ll", op.dims.back().value());
    for (std::size_t i = op.dims.size() - 1; i-- > 0;)
        text = fmt::format("{} == {} ? {}ll : {}", parenthesized(position), i, op.dims[i].value(),
                           text);
    return define("long long", text);
}

std::string Emitter::emit(const op::Iota&, Value, const Index& index) {
    return define("long long", fmt::format("(long long)({})", index[0]));
}

}  // namespace kn::cuda
