#include "optimizer/rewriter.h"

#include <algorithm>
#include <cmath>

namespace kn::optimizer {

std::optional<Value> Rewriter::unary(Value v, UnaryOp op) const {
    const auto* node = graph.get_if<op::Unary>(v);
    return node && node->op == op ? std::optional(node->x) : std::nullopt;
}

std::optional<std::pair<Value, Value>> Rewriter::binary(Value v, BinaryOp op) const {
    const auto* node = graph.get_if<op::Binary>(v);
    return node && node->op == op ? std::optional(std::pair(node->a, node->b)) : std::nullopt;
}

bool Rewriter::single_use(Value v) const {
    const auto found = uses_.find(v.index);
    return found == uses_.end() || found->second <= 1;
}

std::shared_ptr<const ConstantData> Rewriter::constant(Value v) const {
    const auto* node = graph.get_if<op::Constant>(v);
    return node ? node->data : nullptr;
}

std::optional<double> Rewriter::uniform(Value v) {
    while (true) {
        if (const auto* broadcast = graph.get_if<op::Broadcast>(v))
            v = broadcast->x;
        else if (const auto* reshape = graph.get_if<op::Reshape>(v))
            v = reshape->x;
        else
            break;
    }
    const auto data = constant(v);
    if (!data || data->tensor.size() != 1) return std::nullopt;
    looked_at(data);
    return data->tensor.at(0);
}

std::optional<Rewriter::WithNumber> Rewriter::with_number(Value v, BinaryOp op) {
    const auto operands = binary(v, op);
    if (!operands) return std::nullopt;
    if (const auto c = uniform(operands->second)) return WithNumber{operands->first, *c};
    const bool commutes =
        op == BinaryOp::Add || op == BinaryOp::Mul || op == BinaryOp::Min || op == BinaryOp::Max;
    if (commutes)
        if (const auto c = uniform(operands->first)) return WithNumber{operands->second, *c};
    return std::nullopt;
}

void Rewriter::rule_fired() {
    for (const auto& data : looked_at_)
        if (session.frozen.insert(data.get()).second) session.keep.push_back(data);
}

bool is_close(double constant, double value, DType dtype) {
    // A few roundings of the dtype: a float32 model widened to double keeps its rounded constants.
    const double tolerance = dtype == DType::F16    ? 1e-3
                             : dtype == DType::BF16 ? 8e-3
                             : dtype == DType::F64  ? 1e-14
                                                    : 1e-6;
    return std::abs(constant - value) <= tolerance * std::abs(value);
}

namespace {

void multiply(Rewriter& r, Value v, Product& product, int depth) {
    if (const auto c = r.uniform(v)) {
        product.number *= *c;
        return;
    }
    if (depth > 0) {
        if (const auto ab = r.binary(v, BinaryOp::Mul)) {
            multiply(r, ab->first, product, depth - 1);
            multiply(r, ab->second, product, depth - 1);
            return;
        }
        if (const auto div = r.with_number(v, BinaryOp::Div)) {
            product.number /= div->number;
            multiply(r, div->x, product, depth - 1);
            return;
        }
        if (const auto x = r.unary(v, UnaryOp::Neg)) {
            product.number = -product.number;
            multiply(r, *x, product, depth - 1);
            return;
        }
        std::optional<Value> base = r.unary(v, UnaryOp::Square);
        int power = 2;
        if (const auto pow = r.with_number(v, BinaryOp::Pow);
            pow && (pow->number == 2 || pow->number == 3)) {
            base = pow->x;
            power = static_cast<int>(pow->number);
        }
        if (base) {
            for (int i = 0; i < power; ++i) multiply(r, *base, product, depth - 1);
            return;
        }
    }
    product.factors.push_back(v);
}

}  // namespace

Product product_of(Rewriter& r, Value v) {
    Product product;
    multiply(r, v, product, 4);
    return product;
}

Ints inverse(const Ints& perm) {
    Ints result(perm.size());
    for (std::size_t i = 0; i < perm.size(); ++i)
        result[static_cast<std::size_t>(perm[i])] = static_cast<std::int64_t>(i);
    return result;
}

Shape keep_shape(const Shape& shape, const Ints& axes) {
    Shape result = shape;
    for (const std::int64_t axis : axes) result[static_cast<std::size_t>(axis)] = 1;
    return result;
}

namespace {

/// The smallest runs of axes from i and j on with the same product, if any.
std::optional<AxisGroup> next_group(const Shape& from, std::size_t i, const Shape& to,
                                    std::size_t j) {
    const auto matches = [&](std::size_t m, std::size_t n) {
        return i + m <= from.rank() && j + n <= to.rank() &&
               from.slice(i, i + m).size() == to.slice(j, j + n).size();
    };
    // One axis of each side before an axis of size 1 on its own.
    if (matches(1, 1)) return AxisGroup{i, i + 1, j, j + 1};
    const std::size_t left = from.rank() - i + to.rank() - j;
    for (std::size_t span = 1; span <= left; ++span)
        for (std::size_t m = 0; m <= span; ++m)
            if (matches(m, span - m)) return AxisGroup{i, i + m, j, j + span - m};
    return std::nullopt;
}

}  // namespace

std::optional<std::vector<AxisGroup>> axis_groups(const Shape& from, const Shape& to) {
    std::vector<AxisGroup> groups;
    std::size_t i = 0;
    std::size_t j = 0;
    while (i < from.rank() || j < to.rank()) {
        const auto group = next_group(from, i, to, j);
        if (!group) return std::nullopt;
        groups.push_back(*group);
        i = group->from_end;
        j = group->to_end;
    }
    return groups;
}

}  // namespace kn::optimizer
