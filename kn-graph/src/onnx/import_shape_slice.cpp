// Slice, Pad, CenterCropPad: positions along axes, which may depend on symbols or on the data.
#include <set>

#include "onnx/import_util.h"

namespace kn::onnx {

namespace {

// Exporters write "to the end" as INT32_MAX or INT64_MAX.
constexpr std::int64_t far = INT32_MAX;

bool is_far(const Dim& dim) { return dim.is_constant() && dim.value() >= far; }
bool is_far_back(const Dim& dim) { return dim.is_constant() && dim.value() <= -far; }

// A position as ONNX writes it, negative ones counted from the end, as a position from the start
// (not clamped).
Dim from_start(Graph& graph, const Dim& position, const Dim& size) {
    if (provably_ge(position, 0)) return position;
    if (provably_gt(0, position)) return position + size;
    if (provably_ge(0, position)) {
        graph.require_not_negative(-position - 1,
                                   "a slice's position counted from the end is not 0");
        return position + size;
    }
    return position + size * min(max(-position, 0), 1);
}

// The form that a size has for all larger values of a symbol, if it holds for 0 too: max(n + min(n,
// 1) - 1, 0) is n.
Dim without_edge_cases(Dim size) {
    std::set<std::string> symbols;
    size.collect_symbols(symbols);
    for (const std::string& name : symbols) {
        const Dim symbol = Dim::symbol(name);
        using Replacement = std::map<std::string, Dim>;
        const Dim beyond = size.substitute(Replacement{{name, symbol + 1}})
                               .substitute(Replacement{{name, symbol - 1}});
        const Replacement zero = {{name, Dim(0)}};
        if (beyond.substitute(zero) == size.substitute(zero)) size = beyond;
    }
    return size;
}

struct Range {
    Dim start;
    Dim length;
};

Range known_range(Graph& graph, const Dim& start, const Dim& end, std::int64_t step,
                  const Dim& size) {
    if (step > 0) {
        if (is_far(start)) return {size, 0};
        const Dim low = is_far_back(start) ? Dim(0) : max(from_start(graph, start, size), 0);
        const Dim high = is_far(end)        ? size
                         : is_far_back(end) ? Dim(0)
                                            : min(from_start(graph, end, size), size);
        const Dim length = without_edge_cases(max(ceil_div(high - low, step), 0));
        if (length == Dim(0)) return {0, 0};
        if (provably_ge(size, low)) return {low, length};
        // An empty range may be asked for beyond the end; it is moved to where the tensor has
        // elements.
        const bool whole_tail = step == 1 && high == size && provably_ge(size, length);
        return {whole_tail ? size - length : min(low, size), length};
    }
    // Positions before the first element start at it, also those far before it.
    const Dim wanted = is_far(start)        ? size - 1
                       : is_far_back(start) ? Dim(0)
                                            : from_start(graph, start, size);
    const Dim high = provably_ge(wanted, size - 1) ? size - 1 : min(max(wanted, 0), size - 1);
    const Dim low = is_far_back(end) ? Dim(-1)
                    : is_far(end)    ? size - 1
                                     : max(from_start(graph, end, size), -1);
    const Dim length = without_edge_cases(max(ceil_div(high - low, -step), 0));
    return {length == Dim(0) ? size - 1 : high, length};
}

// The same on scalars (i64) that only the data decide.
Range run_time_range(Var start, Var end, std::int64_t step, const Dim& size) {
    Graph& graph = *start.graph;
    const Var n = scalar_dim(graph, size);
    const auto clamped = [&](Var position, std::int64_t low, std::int64_t beyond) {
        position = select(less(position, zero_like(position)), position + n, position);
        return minimum(maximum(position, scalar_like(position, static_cast<double>(low))),
                       n + static_cast<double>(beyond));
    };
    const std::int64_t back = step < 0 ? -1 : 0;
    const Var first = clamped(start, 0, back);
    const Var last = clamped(end, back, back);
    const std::int64_t width = std::abs(step);
    const Var distance = (step > 0 ? last - first : first - last) + static_cast<double>(width - 1);
    const Var length = maximum(distance, zero_like(n)) / static_cast<double>(width);
    const Dim start_dim = read_dims(maximum(first, zero_like(n)), "slice_start")[0];
    return {start_dim, read_dims(length, "slice_size")[0]};
}

Var element(Var vector, std::size_t i) {
    return cast(as_scalar(slice(vector, 0, Dim(static_cast<std::int64_t>(i)),
                                Dim(static_cast<std::int64_t>(i) + 1))),
                DType::I64);
}

struct SliceArguments {
    Ints axes;
    Ints steps;
    std::optional<std::vector<Dim>> starts;  // nothing: only the data decide
    std::optional<std::vector<Dim>> ends;
    std::optional<Var> start_values;
    std::optional<Var> end_values;
};

Ints first_axes(std::size_t count) {
    Ints axes;
    for (std::size_t i = 0; i < count; ++i) axes.push_back(static_cast<std::int64_t>(i));
    return axes;
}

std::size_t length_of(Node& node, Var vector, const char* what) {
    if (vector.rank() != 1 || !vector.shape().is_static())
        node.broken(fmt::format("{} are {}, a vector of known length is needed", what,
                                vector.shape().to_string()));
    return static_cast<std::size_t>(vector.shape()[0].value());
}

SliceArguments arguments(Node& node) {
    SliceArguments out;
    if (node.opset() < 10) {
        const auto starts = node.attr_ints("starts");
        const auto ends = node.attr_ints("ends");
        if (!starts || !ends) node.broken("starts or ends are missing");
        out.starts.emplace(starts->begin(), starts->end());
        out.ends.emplace(ends->begin(), ends->end());
        out.axes = node.attr_ints("axes").value_or(first_axes(starts->size()));
        out.steps.assign(out.axes.size(), 1);
        return out;
    }
    out.start_values = node.input(1);
    out.end_values = node.input(2);
    const std::size_t count = length_of(node, *out.start_values, "starts");
    if (length_of(node, *out.end_values, "ends") != count)
        node.broken("as many ends as starts are needed");
    out.starts = node.known_dims(1);
    out.ends = node.known_dims(2);
    out.axes = node.has_input(3) ? node.input_ints(3) : first_axes(count);
    out.steps = node.has_input(4) ? node.input_ints(4) : Ints(count, 1);
    return out;
}

std::vector<Var> import_slice(Node& node) {
    const Var x = node.input(0);
    Graph& graph = node.graph();
    const SliceArguments args = arguments(node);
    const std::size_t count = args.axes.size();
    if (args.steps.size() != count || (args.starts && args.starts->size() != count) ||
        (args.ends && args.ends->size() != count))
        node.broken("starts, ends, axes and steps differ in length");
    Shape shape = x.shape();
    std::vector<Dim> starts(shape.rank(), Dim(0));
    Ints steps(shape.rank(), 1);
    std::set<std::size_t> seen;
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t axis = normalize_axis(args.axes[i], shape.rank());
        if (!seen.insert(axis).second) node.broken(fmt::format("axis {} comes twice", axis));
        steps[axis] = args.steps[i];
        if (steps[axis] == 0 || steps[axis] == INT64_MIN)
            node.broken(fmt::format("the step of axis {} is {}", axis, steps[axis]));
        const auto value = [&](const std::optional<std::vector<Dim>>& dims,
                               const std::optional<Var>& values) {
            return dims ? scalar_dim(graph, (*dims)[i]) : element(*values, i);
        };
        const Dim size = shape[axis];
        const Range range =
            args.starts && args.ends
                ? known_range(graph, (*args.starts)[i], (*args.ends)[i], steps[axis], size)
                : run_time_range(value(args.starts, args.start_values),
                                 value(args.ends, args.end_values), steps[axis], size);
        starts[axis] = range.start;
        shape[axis] = range.length;
    }
    if (shape == x.shape() && steps == Ints(shape.rank(), 1)) return {x};
    return {add(x, op::Slice{x, std::move(starts), std::move(steps), std::move(shape)})};
}

// ---- Pad ----

// Positive parts are added, negative ones cut off (first).
Var padded(Var x, std::vector<Dim> before, std::vector<Dim> after, PadMode mode,
           std::optional<Var> value) {
    const auto positive = [](const Dim& dim) { return max(dim, 0); };
    bool any = false;
    for (std::size_t axis = 0; axis < x.rank(); ++axis) {
        const Dim size = x.shape()[axis];
        x = slice(x, static_cast<std::int64_t>(axis), positive(-before[axis]),
                  size - positive(-after[axis]));
        before[axis] = positive(before[axis]);
        after[axis] = positive(after[axis]);
        any = any || before[axis] != Dim(0) || after[axis] != Dim(0);
    }
    if (!any) return x;
    std::optional<Value> fill;
    if (mode == PadMode::Constant) fill = value ? as_scalar(*value) : zero_like(x);
    return add(x, op::Pad{x, std::move(before), std::move(after), mode, fill});
}

PadMode pad_mode(Node& node) {
    const std::string mode = node.attr_string("mode", "constant");
    if (mode == "constant") return PadMode::Constant;
    if (mode == "reflect") return PadMode::Reflect;
    if (mode == "edge") return PadMode::Edge;
    if (mode != "wrap" || node.opset() < 19) node.broken("mode is '" + mode + "'");
    return PadMode::Wrap;
}

// Pads in ONNX's order (all begins, then all ends) of `axes`.
std::vector<Var> pad_axes(Node& node, Var x, const std::vector<Dim>& pads, const Ints& axes,
                          PadMode mode, std::optional<Var> value) {
    if (pads.size() != 2 * axes.size())
        node.broken(fmt::format("{} pads for {} axes", pads.size(), axes.size()));
    std::vector<Dim> before(x.rank(), Dim(0));
    std::vector<Dim> after(x.rank(), Dim(0));
    std::set<std::size_t> seen;
    for (std::size_t i = 0; i < axes.size(); ++i) {
        const std::size_t axis = normalize_axis(axes[i], x.rank());
        if (!seen.insert(axis).second) node.broken(fmt::format("axis {} comes twice", axis));
        before[axis] = pads[i];
        after[axis] = pads[i + axes.size()];
    }
    return {padded(x, std::move(before), std::move(after), mode, value)};
}

std::vector<Var> import_pad_2(Node& node) {
    const Var x = node.input(0);
    const auto pads = node.attr_ints("pads");
    if (!pads) node.broken("pads are missing");
    const Var value = scalar_like(x, node.attr_float("value", 0));
    return pad_axes(node, x, {pads->begin(), pads->end()}, first_axes(x.rank()), pad_mode(node),
                    value);
}

std::vector<Dim> pad_amounts(Node& node) {
    if (const auto known = node.known_dims(1)) return *known;
    // Symbols are never negative, so that the two signs are read apart.
    const Var pads = cast(node.input(1), DType::I64);
    std::vector<Dim> amounts = read_dims(maximum(pads, zero_like(pads)), "pad");
    const std::vector<Dim> crops = read_dims(maximum(-pads, zero_like(pads)), "crop");
    for (std::size_t i = 0; i < amounts.size(); ++i) amounts[i] -= crops[i];
    return amounts;
}

std::vector<Var> import_pad(Node& node) {
    const Var x = node.input(0);
    const PadMode mode = pad_mode(node);
    const std::vector<Dim> pads = pad_amounts(node);
    const std::optional<Var> value = node.optional_input(2);
    Ints axes = first_axes(x.rank());
    if (node.opset() >= 18 && node.has_input(3)) axes = node.input_ints(3);
    return pad_axes(node, x, pads, axes, mode, value);
}

std::vector<Var> import_center_crop_pad(Node& node) {
    Var x = node.input(0);
    const Ints axes = node.attr_ints("axes").value_or(first_axes(x.rank()));
    const std::vector<Dim> sizes = node.input_dims(1);
    if (sizes.size() != axes.size())
        node.broken(fmt::format("{} sizes for {} axes", sizes.size(), axes.size()));
    std::vector<Dim> before(x.rank(), Dim(0));
    std::vector<Dim> after(x.rank(), Dim(0));
    for (std::size_t i = 0; i < axes.size(); ++i) {
        const std::size_t axis = normalize_axis(axes[i], x.rank());
        const Dim size = x.shape()[axis];
        const Dim crop = max(size - sizes[i], 0);
        const Dim grow = max(sizes[i] - size, 0);
        before[axis] = floor_div(grow, 2);
        after[axis] = grow - before[axis];
        const Dim start = floor_div(crop, 2);
        x = slice(x, static_cast<std::int64_t>(axis), start, start + size - crop);
    }
    return {padded(x, std::move(before), std::move(after), PadMode::Constant, std::nullopt)};
}

}  // namespace

std::vector<ImportRow> slice_rows() {
    return {
        {"", "Slice", 1, import_slice},
        {"", "Pad", 2, import_pad_2},
        {"", "Pad", 11, import_pad},
        {"", "CenterCropPad", 18, import_center_crop_pad},
    };
}

}  // namespace kn::onnx
