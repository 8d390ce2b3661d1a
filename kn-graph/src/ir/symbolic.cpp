#include "ir/symbolic.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <unordered_map>

namespace kn {

namespace {

constexpr std::int64_t max_elements = 4096;
constexpr int max_depth = 48;

// An exact fraction, so that a size may pass through float arithmetic.
struct Fraction {
    Dim numerator;
    std::int64_t denominator = 1;  // > 0
};
using Element = std::optional<Fraction>;

struct Block {
    Ints shape;
    std::vector<Element> elements;
};
using Known = std::optional<Block>;

Fraction make(Dim numerator, std::int64_t denominator) {
    if (denominator != 1 && numerator.is_constant()) {
        const std::int64_t g = std::gcd(numerator.value(), denominator);
        if (g > 1) return {numerator.value() / g, denominator / g};
    }
    return {std::move(numerator), denominator};
}

Element from_double(double x) {
    constexpr double scale = 1 << 16;
    const double scaled = x * scale;
    if (!(std::abs(scaled) < 1e15) || scaled != std::floor(scaled)) return std::nullopt;
    return make(static_cast<std::int64_t>(scaled), 1 << 16);
}

// Whether a number is exact in a dtype; elsewhere integers wrap and floats round.
bool is_exact(const Fraction& x, DType dtype) {
    if (!x.numerator.is_constant() || dtype == DType::I64 || dtype == DType::Bool) return true;
    const double limit = dtype == DType::I32 ? 0x1p31 - 1 : dtype == DType::F32 ? 0x1p24 : 0x1p53;
    return std::abs(static_cast<double>(x.numerator.value())) <= limit;
}

Element truth(bool x) { return Fraction{x ? 1 : 0, 1}; }

std::optional<std::int64_t> number(const Element& x) {
    if (!x || x->denominator != 1) return std::nullopt;
    return x->numerator.constant();
}

Ints strides_of(const Ints& shape) {
    Ints out(shape.size(), 1);
    for (std::size_t i = shape.size(); i-- > 1;) out[i - 1] = out[i] * shape[i];
    return out;
}

// Fills a block by asking for the element at each coordinate.
template <class F>
Block fill(const Ints& shape, F&& element) {
    Block out{shape, {}};
    const std::int64_t size = checked_size(shape);
    Ints at(shape.size(), 0);
    for (std::int64_t i = 0; i < size; i++) {
        out.elements.push_back(element(at));
        for (std::size_t axis = shape.size(); axis-- > 0;) {
            if (++at[axis] < shape[axis]) break;
            at[axis] = 0;
        }
    }
    return out;
}

std::size_t offset(const Ints& at, const Ints& strides) {
    std::int64_t out = 0;
    for (std::size_t i = 0; i < at.size(); i++) out += at[i] * strides[i];
    return static_cast<std::size_t>(out);
}

Element compare(BinaryOp op, const Fraction& a, const Fraction& b) {
    const Dim difference = a.numerator * b.denominator - b.numerator * a.denominator;
    const auto low = difference.lower_bound(), high = (-difference).lower_bound();
    const bool above = low && *low > 0, below = high && *high > 0;  // a > b, a < b
    const bool not_below = low && *low >= 0, not_above = high && *high >= 0;
    switch (op) {
        case BinaryOp::Equal:
            if (difference == Dim(0)) return truth(true);
            if (above || below) return truth(false);
            break;
        case BinaryOp::Less:
            if (below) return truth(true);
            if (not_below) return truth(false);
            break;
        case BinaryOp::LessEqual:
            if (not_above) return truth(true);
            if (above) return truth(false);
            break;
        default: break;
    }
    return std::nullopt;
}

Element divide(const Fraction& a, const Fraction& b, bool integers) {
    if (integers) {
        if (b.numerator == Dim(0)) return std::nullopt;
        if (b.numerator == Dim(-1)) return Fraction{-a.numerator, 1};
        if (a.numerator.is_constant() && b.numerator.is_constant())
            return Fraction{a.numerator.value() / b.numerator.value(), 1};
        if (!provably_ge(a.numerator, 0) || !provably_ge(b.numerator, 0)) return std::nullopt;
        return Fraction{floor_div(a.numerator, b.numerator), 1};
    }
    const auto divisor = b.numerator.constant();
    if (!divisor || *divisor == 0) return std::nullopt;
    const std::int64_t sign = *divisor < 0 ? -1 : 1;
    return make(a.numerator * b.denominator * sign,
                checked_size(Ints{a.denominator, *divisor * sign}));
}

Element combine(BinaryOp op, const Element& a, const Element& b, bool integers) {
    // false and x, true or x, 0 * x need not know x
    if (op == BinaryOp::And && ((number(a) == 0) || (number(b) == 0))) return truth(false);
    if (op == BinaryOp::Or && ((number(a) == 1) || (number(b) == 1))) return truth(true);
    if (!a || !b) return std::nullopt;
    const Dim x = a->numerator * b->denominator, y = b->numerator * a->denominator;
    const std::int64_t common = checked_size(Ints{a->denominator, b->denominator});
    const bool whole = common == 1;
    switch (op) {
        case BinaryOp::Add: return make(x + y, common);
        case BinaryOp::Sub: return make(x - y, common);
        case BinaryOp::Mul: return make(a->numerator * b->numerator, common);
        case BinaryOp::Div: return divide(*a, *b, integers);
        case BinaryOp::Mod:
            if (!whole || !provably_gt(y, 0)) return std::nullopt;
            return Fraction{mod(x, y), 1};
        case BinaryOp::Min: return whole ? Element(Fraction{min(x, y), 1}) : std::nullopt;
        case BinaryOp::Max: return whole ? Element(Fraction{max(x, y), 1}) : std::nullopt;
        case BinaryOp::And:
        case BinaryOp::Or:
            if (!number(a) || !number(b)) return std::nullopt;
            return truth(op == BinaryOp::And ? *number(a) && *number(b) : *number(a) || *number(b));
        case BinaryOp::Equal:
        case BinaryOp::Less:
        case BinaryOp::LessEqual: return compare(op, *a, *b);
        default: return std::nullopt;
    }
}

Element transform(UnaryOp op, const Element& x) {
    if (!x) return std::nullopt;
    switch (op) {
        case UnaryOp::Neg: return Fraction{-x->numerator, x->denominator};
        case UnaryOp::Not: return number(x) ? truth(*number(x) == 0) : std::nullopt;
        case UnaryOp::Floor: return Fraction{floor_div(x->numerator, x->denominator), 1};
        case UnaryOp::Ceil: return Fraction{ceil_div(x->numerator, x->denominator), 1};
        case UnaryOp::Abs: return provably_ge(x->numerator, 0) ? x : std::nullopt;
        default: return std::nullopt;
    }
}

Element convert(const Element& x, DType to) {
    if (!x) return std::nullopt;
    if (to == DType::Bool) {
        const Element zero = compare(BinaryOp::Equal, *x, {0, 1});
        return zero ? truth(*number(zero) == 0) : std::nullopt;
    }
    if (!is_int(to) || x->denominator == 1) return x;
    if (!provably_ge(x->numerator, 0)) return std::nullopt;
    return Fraction{floor_div(x->numerator, x->denominator), 1};
}

class Evaluator {
  public:
    explicit Evaluator(const Graph& graph) : graph_(graph) {}

    const Known& operator()(Value value) {
        const auto found = memo_.find(value.index);
        if (found != memo_.end()) return found->second;
        Known out;
        const Type& type = graph_.type(value);
        if (depth_ < max_depth && tracked(type.dtype) && small(type.shape)) {
            depth_++;
            try {
                out = std::visit([&](const auto& op) { return eval(op, type); },
                                 graph_[value].operation);
                if (out)
                    for (Element& element : out->elements)
                        if (element && !is_exact(*element, type.dtype)) element.reset();
            } catch (const GraphError&) {
                out.reset();  // an overflow: whoever uses the value will see
            }
            depth_--;
        }
        return memo_.emplace(value.index, std::move(out)).first->second;
    }

  private:
    static bool tracked(DType dtype) {
        return dtype == DType::I64 || dtype == DType::I32 || dtype == DType::Bool ||
               dtype == DType::F32 || dtype == DType::F64;
    }
    static bool small(const Shape& shape) {
        if (!shape.is_static()) return false;
        const auto size = shape.size().constant();
        return size && *size <= max_elements;
    }

    template <class Op>
    Known eval(const Op&, const Type&) {
        return std::nullopt;
    }

    Known eval(const op::Constant& op, const Type& type) {
        const Tensor& t = op.data->tensor;
        Block out{t.shape(), {}};
        for (std::int64_t i = 0; i < t.size(); i++)
            out.elements.push_back(is_float(type.dtype) ? from_double(t.at(i))
                                                        : Fraction{t.int_at(i), 1});
        return out;
    }

    Known eval(const op::ShapeValue& op, const Type&) {
        Block out{op.shape, {}};
        for (const Dim& dim : op.dims) out.elements.push_back(Fraction{dim, 1});
        return out;
    }

    Known eval(const op::Iota&, const Type& type) {
        return fill(type.shape.to_ints(), [](const Ints& at) { return Fraction{at[0], 1}; });
    }

    Known eval(const op::ReadDims& op, const Type& type) {
        Block out{type.shape.to_ints(), {}};
        for (const std::string& symbol : op.symbols)
            out.elements.push_back(Fraction{Dim::symbol(symbol), 1});
        return out;
    }

    Known eval(const op::Reshape& op, const Type& type) {
        const Known x = (*this)(op.x);
        if (!x) return std::nullopt;
        return Block{type.shape.to_ints(), x->elements};
    }

    Known eval(const op::Permute& op, const Type& type) {
        const Known x = (*this)(op.x);
        if (!x) return std::nullopt;
        const Ints strides = strides_of(x->shape);
        return fill(type.shape.to_ints(), [&](const Ints& at) {
            std::int64_t i = 0;
            for (std::size_t a = 0; a < at.size(); a++)
                i += at[a] * strides[static_cast<std::size_t>(op.perm[a])];
            return x->elements[static_cast<std::size_t>(i)];
        });
    }

    Known eval(const op::Broadcast& op, const Type& type) {
        const Known x = (*this)(op.x);
        if (!x) return std::nullopt;
        Ints strides = strides_of(x->shape);
        for (std::size_t a = 0; a < strides.size(); a++)
            if (x->shape[a] == 1) strides[a] = 0;
        return fill(type.shape.to_ints(),
                    [&](const Ints& at) { return x->elements[offset(at, strides)]; });
    }

    Known eval(const op::Slice& op, const Type& type) {
        const Known x = (*this)(op.x);
        if (!x) return std::nullopt;
        const Ints strides = strides_of(x->shape);
        Ints first(strides.size());
        for (std::size_t a = 0; a < first.size(); a++) {
            if (!op.starts[a].is_constant()) return std::nullopt;
            first[a] = op.starts[a].value();
        }
        return fill(type.shape.to_ints(), [&](const Ints& at) {
            std::int64_t i = 0;
            for (std::size_t a = 0; a < at.size(); a++)
                i += (first[a] + at[a] * op.steps[a]) * strides[a];
            return x->elements.at(static_cast<std::size_t>(i));
        });
    }

    Known eval(const op::Concat& op, const Type& type) {
        std::vector<Known> parts;
        for (const Value& part : op.inputs) {
            parts.push_back((*this)(part));
            if (parts.back()) continue;
            // Unknown elements, but a known number of them.
            if (!graph_.shape(part).is_static()) return std::nullopt;
            const Ints shape = graph_.shape(part).to_ints();
            parts.back() =
                Block{shape, std::vector<Element>(static_cast<std::size_t>(checked_size(shape)))};
        }
        const auto axis = static_cast<std::size_t>(op.axis);
        return fill(type.shape.to_ints(), [&](Ints at) {
            std::size_t part = 0;
            while (at[axis] >= parts[part]->shape[axis]) at[axis] -= parts[part++]->shape[axis];
            return parts[part]->elements[offset(at, strides_of(parts[part]->shape))];
        });
    }

    Known eval(const op::Gather& op, const Type& type) {
        const Known x = (*this)(op.x), indices = (*this)(op.indices);
        if (!x || !indices) return std::nullopt;
        const auto axis = static_cast<std::size_t>(op.axis);
        const Ints strides = strides_of(x->shape), index_strides = strides_of(indices->shape);
        return fill(type.shape.to_ints(), [&](const Ints& at) -> Element {
            const Ints index_at(
                at.begin() + op.axis,
                at.begin() + op.axis + static_cast<std::int64_t>(indices->shape.size()));
            auto index = number(indices->elements[offset(index_at, index_strides)]);
            if (!index) return std::nullopt;
            if (*index < 0) *index += x->shape[axis];
            if (*index < 0 || *index >= x->shape[axis]) return std::nullopt;
            Ints source(at.begin(), at.begin() + op.axis);
            source.push_back(*index);
            source.insert(source.end(),
                          at.begin() + op.axis + static_cast<std::int64_t>(indices->shape.size()),
                          at.end());
            return x->elements[offset(source, strides)];
        });
    }

    Known eval(const op::Unary& op, const Type&) {
        Known x = (*this)(op.x);
        if (!x) return std::nullopt;
        for (Element& element : x->elements) element = transform(op.op, element);
        return x;
    }

    Known eval(const op::Binary& op, const Type& type) {
        const Known a = or_unknown(op.a), b = or_unknown(op.b);
        if (!a || !b) return std::nullopt;
        const bool integers = is_int(graph_.dtype(op.a));
        Block out{type.shape.to_ints(), {}};
        for (std::size_t i = 0; i < a->elements.size(); i++)
            out.elements.push_back(combine(op.op, a->elements[i], b->elements[i], integers));
        return out;
    }

    Known eval(const op::Select& op, const Type& type) {
        const Known condition = (*this)(op.condition), a = or_unknown(op.a), b = or_unknown(op.b);
        if (!condition || !a || !b) return std::nullopt;
        Block out{type.shape.to_ints(), {}};
        for (std::size_t i = 0; i < condition->elements.size(); i++) {
            const auto chosen = number(condition->elements[i]);
            const Element &x = a->elements[i], &y = b->elements[i];
            if (chosen)
                out.elements.push_back(*chosen ? x : y);
            else if (x && y && x->numerator == y->numerator && x->denominator == y->denominator)
                out.elements.push_back(x);
            else
                out.elements.push_back(std::nullopt);
        }
        return out;
    }

    Known eval(const op::Cast& op, const Type& type) {
        Known x = (*this)(op.x);
        if (!x) return std::nullopt;
        for (Element& element : x->elements) element = convert(element, type.dtype);
        return x;
    }

    Known eval(const op::Reduce& op, const Type& type) {
        const Known x = (*this)(op.x);
        if (!x || op.op == ReduceOp::Mean) return std::nullopt;
        const bool boolean = graph_.dtype(op.x) == DType::Bool;
        BinaryOp fold = BinaryOp::Add;
        Element start = Fraction{0, 1};
        if (op.op == ReduceOp::Prod) fold = BinaryOp::Mul, start = Fraction{1, 1};
        const bool extreme = op.op == ReduceOp::Max || op.op == ReduceOp::Min;
        if (op.op == ReduceOp::Max) fold = boolean ? BinaryOp::Or : BinaryOp::Max;
        if (op.op == ReduceOp::Min) fold = boolean ? BinaryOp::And : BinaryOp::Min;
        const Ints shape = type.shape.to_ints(), out_strides = strides_of(shape);
        Block out{shape,
                  std::vector<Element>(static_cast<std::size_t>(checked_size(shape)), start)};
        std::vector<bool> begun(out.elements.size(), !extreme);
        std::size_t i = 0;
        fill(x->shape, [&](const Ints& at) -> Element {
            Ints kept;
            for (std::size_t a = 0; a < at.size(); a++)
                if (std::find(op.axes.begin(), op.axes.end(), static_cast<std::int64_t>(a)) ==
                    op.axes.end())
                    kept.push_back(at[a]);
            const std::size_t to = offset(kept, out_strides);
            out.elements[to] =
                begun[to] ? combine(fold, out.elements[to], x->elements[i], true) : x->elements[i];
            begun[to] = true;
            i++;
            return std::nullopt;
        });
        for (std::size_t k = 0; k < begun.size(); k++)
            if (!begun[k]) out.elements[k].reset();
        return out;
    }

    // Unknown elements of a small tensor may still be masked out.
    Known or_unknown(Value value) {
        const Known known = (*this)(value);
        if (known || !small(graph_.shape(value))) return known;
        const Ints shape = graph_.shape(value).to_ints();
        return Block{shape, std::vector<Element>(static_cast<std::size_t>(checked_size(shape)))};
    }

    const Graph& graph_;
    std::unordered_map<std::uint32_t, Known> memo_;
    int depth_ = 0;
};

}  // namespace

std::optional<std::vector<std::optional<Dim>>> partial_dims(const Graph& graph, Value value) {
    const DType dtype = graph.dtype(value);
    if (!is_int(dtype) && dtype != DType::Bool) return std::nullopt;
    const Known known = Evaluator(graph)(value);
    if (!known) return std::nullopt;
    std::vector<std::optional<Dim>> out;
    for (const Element& element : known->elements)
        out.push_back(element && element->denominator == 1 ? std::optional(element->numerator)
                                                           : std::nullopt);
    return out;
}

std::optional<std::vector<Dim>> known_dims(const Graph& graph, Value value) {
    const auto partial = partial_dims(graph, value);
    if (!partial) return std::nullopt;
    std::vector<Dim> out;
    for (const auto& dim : *partial) {
        if (!dim) return std::nullopt;
        out.push_back(*dim);
    }
    return out;
}

std::optional<Ints> known_ints(const Graph& graph, Value value) {
    const auto dims = known_dims(graph, value);
    if (!dims) return std::nullopt;
    Ints out;
    for (const Dim& dim : *dims) {
        if (!dim.is_constant()) return std::nullopt;
        out.push_back(dim.value());
    }
    return out;
}

}  // namespace kn
