// Einsum, lowered pair by pair: sums over labels that nobody else needs, permutations, and one
// batched matrix product or multiplication a pair.
#include <algorithm>
#include <map>
#include <set>

#include "onnx/import_util.h"

namespace kn::onnx {

namespace {

// A letter's code, or for the axes under an ellipsis -1 (the last), -2, ...
using Label = int;
using Labels = std::vector<Label>;

struct Operand {
    Var x;
    Labels labels;  // one an axis
};

bool has(const Labels& labels, Label label) {
    return std::find(labels.begin(), labels.end(), label) != labels.end();
}

constexpr Label ellipsis = 0;

// "a...b" to labels, `ellipsis` for the dots.
Labels parse_term(Node& node, const std::string& text) {
    Labels labels;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
            labels.push_back(c);
        } else if (text.compare(i, 3, "...") == 0 && !has(labels, ellipsis)) {
            labels.push_back(ellipsis);
            i += 2;
        } else {
            node.broken("the equation's term '" + text + "' cannot be read");
        }
    }
    return labels;
}

Labels expand(const Labels& term, std::size_t count) {
    Labels out;
    for (const Label label : term) {
        if (label != ellipsis) {
            out.push_back(label);
            continue;
        }
        for (std::size_t i = count; i > 0; --i) out.push_back(-static_cast<Label>(i));
    }
    return out;
}

struct Equation {
    std::vector<Operand> operands;
    Labels output;
};

// Without "->": the ellipsis, then the letters that come once, in order.
Labels implicit_output(const std::vector<Operand>& operands, std::size_t dotted) {
    std::map<Label, int> count;
    for (const Operand& operand : operands)
        for (const Label label : operand.labels)
            if (label > 0) ++count[label];
    Labels output = expand({ellipsis}, dotted);
    for (const auto& [label, times] : count)
        if (times == 1) output.push_back(label);
    return output;
}

Equation parse(Node& node) {
    std::string text = node.attr_string("equation", "");
    text.erase(std::remove(text.begin(), text.end(), ' '), text.end());
    const std::size_t arrow = text.find("->");
    std::vector<std::string> terms(1);
    for (const char c : text.substr(0, arrow)) {
        if (c == ',')
            terms.emplace_back();
        else
            terms.back() += c;
    }
    const std::vector<Var> inputs = node.all_inputs();
    if (terms.size() != inputs.size())
        node.broken(
            fmt::format("the equation has {} terms for {} inputs", terms.size(), inputs.size()));
    Equation out;
    std::size_t dotted = 0;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        const Labels term = parse_term(node, terms[i]);
        const bool dots = has(term, ellipsis);
        const std::size_t letters = term.size() - (dots ? 1 : 0);
        const std::size_t rank = inputs[i].rank();
        if (rank < letters || (!dots && rank != letters))
            node.broken(
                fmt::format("term '{}' does not fit input {} of rank {}", terms[i], i, rank));
        dotted = std::max(dotted, rank - letters);
        out.operands.push_back({inputs[i], expand(term, rank - letters)});
    }
    if (arrow == std::string::npos) {
        out.output = implicit_output(out.operands, dotted);
        return out;
    }
    out.output = expand(parse_term(node, text.substr(arrow + 2)), dotted);
    for (std::size_t i = 0; i < out.output.size(); ++i) {
        const Label label = out.output[i];
        const bool known =
            std::any_of(out.operands.begin(), out.operands.end(),
                        [&](const Operand& operand) { return has(operand.labels, label); });
        if (!known || std::count(out.output.begin(), out.output.end(), label) != 1)
            node.broken("the equation's output names an index twice, or one that no input has");
    }
    return out;
}

void erase_axis(Operand& operand, std::size_t axis) {
    operand.labels.erase(operand.labels.begin() + static_cast<std::ptrdiff_t>(axis));
}

// A label that comes twice in one operand: the diagonal, as a sum of zeros beside it.
void take_diagonals(Operand& operand) {
    for (std::size_t second = 1; second < operand.labels.size(); ++second) {
        const auto found =
            std::find(operand.labels.begin(), operand.labels.end(), operand.labels[second]);
        const auto first = static_cast<std::size_t>(found - operand.labels.begin());
        if (first == second) continue;
        Var& x = operand.x;
        Graph& graph = *x.graph;
        const Shape shape = x.shape();
        graph.require_equal(shape[first], shape[second], "axes of one index");
        const Var on = equal(iota_along(graph, shape[first], first, shape.rank()),
                             iota_along(graph, shape[second], second, shape.rank()));
        x = sum(select(on, x, zero_like(x)), {static_cast<std::int64_t>(second)});
        erase_axis(operand, second--);
    }
}

// A dim of 1 where another operand has more is dropped: it broadcasts.
void drop_ones(std::vector<Operand>& operands) {
    std::set<Label> larger;
    for (const Operand& operand : operands)
        for (std::size_t i = 0; i < operand.labels.size(); ++i)
            if (operand.x.shape()[i] != Dim(1)) larger.insert(operand.labels[i]);
    for (Operand& operand : operands) {
        for (std::size_t i = operand.labels.size(); i-- > 0;) {
            if (operand.x.shape()[i] != Dim(1) || !larger.count(operand.labels[i])) continue;
            operand.x = squeeze(operand.x, {static_cast<std::int64_t>(i)});
            erase_axis(operand, i);
        }
    }
}

template <class Needed>
void sum_unneeded(Operand& operand, Needed needed) {
    Ints axes;
    Labels kept;
    for (std::size_t i = 0; i < operand.labels.size(); ++i) {
        if (needed(operand.labels[i]))
            kept.push_back(operand.labels[i]);
        else
            axes.push_back(static_cast<std::int64_t>(i));
    }
    if (!axes.empty()) operand.x = sum(operand.x, axes);
    operand.labels = kept;
}

Dim size_of_label(const Operand& operand, Label label) {
    const auto found = std::find(operand.labels.begin(), operand.labels.end(), label);
    return operand.x.shape()[static_cast<std::size_t>(found - operand.labels.begin())];
}

Labels joined(std::initializer_list<Labels> groups) {
    Labels out;
    for (const Labels& group : groups) out.insert(out.end(), group.begin(), group.end());
    return out;
}

Shape sizes(const Operand& operand, const Labels& labels) {
    Shape shape;
    for (const Label label : labels) shape.push_back(size_of_label(operand, label));
    return shape;
}

// With axes in the order of `order`; labels that the operand lacks become dims of 1.
Var arranged(const Operand& operand, const Labels& order) {
    Ints perm;
    Shape shape;
    for (const Label label : order) {
        if (!has(operand.labels, label)) {
            shape.push_back(1);
            continue;
        }
        const auto found = std::find(operand.labels.begin(), operand.labels.end(), label);
        perm.push_back(found - operand.labels.begin());
        shape.push_back(size_of_label(operand, label));
    }
    return reshape(permute(operand.x, perm), shape);
}

template <class Needed>
Operand combine(const Operand& a, const Operand& b, Needed needed) {
    Labels batch, summed, rows, columns;
    for (const Label label : a.labels)
        (!has(b.labels, label) ? rows : needed(label) ? batch : summed).push_back(label);
    for (const Label label : b.labels)
        if (!has(a.labels, label)) columns.push_back(label);
    const Labels result = joined({batch, rows, columns});
    if (summed.empty()) return {arranged(a, result) * arranged(b, result), result};

    const Shape batch_a = sizes(a, batch), batch_b = sizes(b, batch);
    const Shape m = sizes(a, rows), n = sizes(b, columns);
    const auto stacked = [](const Shape& lead, const Dim& first, const Dim& second) {
        Shape shape = lead;
        shape.push_back(first);
        shape.push_back(second);
        return shape;
    };
    const Var left = reshape(arranged(a, joined({batch, rows, summed})),
                             stacked(batch_a, m.size(), sizes(a, summed).size()));
    const Var right = reshape(arranged(b, joined({batch, summed, columns})),
                              stacked(batch_b, sizes(b, summed).size(), n.size()));
    const Var product = matmul(left, right);
    Shape shape = product.shape().slice(0, batch.size());
    for (const Shape& part : {m, n})
        for (const Dim& dim : part) shape.push_back(dim);
    return {reshape(product, shape), result};
}

std::vector<Var> import_einsum(Node& node) {
    Equation equation = parse(node);
    std::vector<Operand>& operands = equation.operands;
    for (Operand& operand : operands) take_diagonals(operand);
    drop_ones(operands);
    Operand result = operands[0];
    for (std::size_t next = 0; next < operands.size(); ++next) {
        const auto needed_after = [&](Label label) {
            return has(equation.output, label) ||
                   std::any_of(operands.begin() + static_cast<std::ptrdiff_t>(next) + 1,
                               operands.end(),
                               [&](const Operand& later) { return has(later.labels, label); });
        };
        if (next > 0) {
            Operand& other = operands[next];
            sum_unneeded(result, [&](Label label) {
                return needed_after(label) || has(other.labels, label);
            });
            sum_unneeded(other, [&](Label label) {
                return needed_after(label) || has(result.labels, label);
            });
            result = combine(result, other, needed_after);
        }
    }
    sum_unneeded(result, [&](Label label) { return has(equation.output, label); });
    return {arranged(result, equation.output)};
}

}  // namespace

std::vector<ImportRow> einsum_rows() { return {{"", "Einsum", 12, import_einsum}}; }

}  // namespace kn::onnx
