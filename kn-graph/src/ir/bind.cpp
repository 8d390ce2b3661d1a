// Symbols and numbers: giving symbols their values, and finding them from shapes.
#include <algorithm>

#include <kn/graph/graph.h>

#include "ir/rewrite.h"

namespace kn {

Graph Graph::bind(const Bindings& bindings) const {
    const std::vector<std::string> known = input_symbols();
    SymbolMap symbols;
    for (const auto& [name, value] : bindings) {
        if (std::find(known.begin(), known.end(), name) == known.end()) {
            std::string list;
            for (const std::string& symbol : known)
                list += (list.empty() ? "" : ", ") + printable(symbol);
            throw GraphError(
                "no dim is named '" + printable(name) + "'" +
                (list.empty() ? "; the network has none" : "; the network has: " + list));
        }
        if (value < 0)
            throw GraphError("the dim '" + printable(name) + "' cannot be " +
                             std::to_string(value));
        symbols.emplace(name, value);
    }
    Graph out;
    out.share_fresh_symbols(*this);
    ValueMap map(*this);
    copy_live(out, *this, map, symbols);
    for (const NamedValue& output : outputs_) out.output(output.name, map(output.value));
    return out;
}

Bindings Graph::infer_bindings(const std::vector<Ints>& shapes) const {
    if (shapes.size() != inputs_.size())
        throw GraphError(std::to_string(shapes.size()) + " inputs given, " +
                         std::to_string(inputs_.size()) + " expected");
    const auto refuse = [&](std::size_t i, const std::string& reason) {
        throw GraphError("input '" + printable(inputs_[i].name) + "' has shape " +
                         Shape::of(shapes[i]).to_string() + ", expected " +
                         shape(inputs_[i].value).to_string() + reason);
    };
    for (std::size_t i = 0; i < inputs_.size(); i++)
        if (shapes[i].size() != shape(inputs_[i].value).rank()) refuse(i, "");

    // A dim such as past + seq can be solved only when one of its symbols is known: repeat while
    // something new turns up.
    Bindings bindings;
    for (bool progress = true; progress;) {
        progress = false;
        for (std::size_t i = 0; i < inputs_.size(); i++) {
            const Shape& wanted = shape(inputs_[i].value);
            for (std::size_t axis = 0; axis < wanted.rank(); axis++) {
                const auto solution = wanted[axis].substitute(bindings).solve(shapes[i][axis]);
                if (solution) progress |= bindings.insert(*solution).second;
            }
        }
    }
    for (std::size_t i = 0; i < inputs_.size(); i++) {
        const Shape& wanted = shape(inputs_[i].value);
        for (std::size_t axis = 0; axis < wanted.rank(); axis++) {
            const Dim dim = wanted[axis].substitute(bindings);
            if (!dim.is_constant())
                refuse(i, ": '" + dim.to_string() + "' does not follow from the inputs' shapes");
            if (dim.value() == shapes[i][axis]) continue;
            refuse(i, wanted[axis].is_constant()
                          ? ""
                          : " with " + wanted[axis].to_string() + " = " + dim.to_string());
        }
    }
    return bindings;
}

}  // namespace kn
