// Dims as text, both ways.
#include <cctype>
#include <charconv>

#include <kn/graph/dim.h>
#include <kn/graph/error.h>

#include "ir/dim_poly.h"

namespace kn {

namespace {

std::string atom_text(const Atom& atom);

bool is_simple(const Dim& dim) { return dim.is_constant() || dim.symbol_name(); }

std::string operand_text(const Dim& dim) {
    return is_simple(dim) ? dim.to_string() : "(" + dim.to_string() + ")";
}

std::string atom_text(const Atom& atom) {
    const auto call = [&](const char* name) {
        return std::string(name) + "(" + atom.a.to_string() + ", " + atom.b.to_string() + ")";
    };
    switch (atom.kind) {
        case Atom::Kind::Symbol: return atom.name;
        case Atom::Kind::FloorDiv: return operand_text(atom.a) + "//" + operand_text(atom.b);
        case Atom::Kind::Min: return call("min");
        case Atom::Kind::Max: return call("max");
        case Atom::Kind::Broadcast: return call("broadcast");
    }
    return {};
}

// Expressions as exporters write them (sympy's syntax and Python's). Any failure makes the whole
// text one name.
class Parser {
  public:
    explicit Parser(const std::string& text) : text_(text) {}

    std::optional<Dim> parse() {
        const auto out = sum(0);
        skip_space();
        if (!out || at_ != text_.size()) return std::nullopt;
        return out;
    }

  private:
    static constexpr int max_depth = 32;

    void skip_space() {
        while (at_ < text_.size() && text_[at_] == ' ') at_++;
    }
    bool take(const char* token) {
        skip_space();
        const std::string_view t = token;
        if (text_.compare(at_, t.size(), t) != 0) return false;
        at_ += t.size();
        return true;
    }

    std::optional<Dim> sum(int depth) {
        auto left = product(depth);
        while (left) {
            const bool plus = take("+");
            if (!plus && !take("-")) break;
            const auto right = product(depth);
            if (!right) return std::nullopt;
            left = plus ? *left + *right : *left - *right;
        }
        return left;
    }

    std::optional<Dim> product(int depth) {
        auto left = factor(depth);
        while (left) {
            const bool divide = take("//");
            const bool modulo = !divide && take("%");
            if (!divide && !modulo && !take("*")) break;
            const auto right = factor(depth);
            if (!right || ((divide || modulo) && *right == Dim(0))) return std::nullopt;
            left = divide ? floor_div(*left, *right) : modulo ? mod(*left, *right) : *left * *right;
        }
        return left;
    }

    std::optional<Dim> factor(int depth) {
        if (depth > max_depth) return std::nullopt;
        if (take("(")) {
            const auto inner = sum(depth + 1);
            return inner && take(")") ? inner : std::nullopt;
        }
        if (take("-")) {
            const auto inner = factor(depth + 1);
            if (!inner) return std::nullopt;
            return -*inner;
        }
        skip_space();
        if (at_ < text_.size() && std::isdigit(static_cast<unsigned char>(text_[at_])))
            return number();
        const std::string word = name();
        if (word.empty()) return std::nullopt;
        if (at_ < text_.size() && text_[at_] == '(') return call(word, depth);
        return Dim::symbol(word);
    }

    std::optional<Dim> number() {
        std::int64_t value = 0;
        const auto [end, error] =
            std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
        if (error != std::errc()) return std::nullopt;
        at_ = static_cast<std::size_t>(end - text_.data());
        return Dim(value);
    }

    // A name may hold dots and, between letters, dashes and slashes without spaces: "batch-size" is
    // one name.
    std::string name() {
        const std::size_t begin = at_;
        const auto is_word = [&](std::size_t i) {
            return i < text_.size() &&
                   (std::isalnum(static_cast<unsigned char>(text_[i])) || text_[i] == '_');
        };
        while (at_ < text_.size()) {
            const char c = text_[at_];
            const bool joins = (c == '.' || c == '-' || c == '/' || c == ':') && at_ > begin &&
                               is_word(at_ + 1) &&
                               !std::isdigit(static_cast<unsigned char>(text_[at_ + 1]));
            if (!is_word(at_) && !joins) break;
            at_++;
        }
        return text_.substr(begin, at_ - begin);
    }

    std::optional<Dim> call(const std::string& function, int depth) {
        take("(");
        const auto a = sum(depth + 1);
        if (!a) return std::nullopt;
        if (function == "floor") {
            if (take(")")) return a;
            if (!take("/")) return std::nullopt;
            const auto b = factor(depth + 1);
            if (!b || *b == Dim(0) || !take(")")) return std::nullopt;
            return floor_div(*a, *b);
        }
        if (!take(",")) return std::nullopt;
        const auto b = sum(depth + 1);
        if (!b || !take(")")) return std::nullopt;
        if (function == "min" || function == "Min") return min(*a, *b);
        if (function == "max" || function == "Max") return max(*a, *b);
        if (function == "broadcast") return broadcast_dim(*a, *b);
        if ((function == "mod" || function == "Mod") && !(*b == Dim(0))) return mod(*a, *b);
        return std::nullopt;
    }

    const std::string& text_;
    std::size_t at_ = 0;
};

}  // namespace

std::string Dim::to_string() const {
    if (!poly_) return std::to_string(value_);
    std::string out;
    for (const Term& term : poly_->terms) {
        const bool negative = term.coefficient < 0;
        const std::string digits = std::to_string(term.coefficient).substr(negative ? 1 : 0);
        out += out.empty() ? (negative ? "-" : "") : (negative ? " - " : " + ");
        std::string factors;
        for (const AtomPtr& atom : term.monomial)
            factors +=
                (factors.empty() ? "" : "*") +
                (atom->kind == Atom::Kind::FloorDiv && (term.monomial.size() > 1 || digits != "1")
                     ? "(" + atom_text(*atom) + ")"
                     : atom_text(*atom));
        if (factors.empty())
            out += digits;
        else
            out += (digits == "1" ? "" : digits + "*") + factors;
    }
    return out;
}

Dim Dim::parse(const std::string& text) {
    try {
        const auto dim = Parser(text).parse();
        if (dim && (!dim->is_constant() || dim->value() >= 0)) return *dim;
    } catch (const GraphError&) {
        // Numbers beyond 64 bits: not an expression for us.
    }
    return symbol(text);
}

}  // namespace kn
