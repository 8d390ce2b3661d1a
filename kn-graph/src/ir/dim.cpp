#include <kn/graph/dim.h>

#include <algorithm>
#include <functional>

#include <kn/graph/error.h>

#include "ir/dim_poly.h"
#include "ir/hash_mix.h"

namespace kn {

namespace {

// A file can make sizes grow without end; no real network comes near this.
constexpr std::size_t max_terms = 200;
constexpr std::size_t max_weight = 1000;

Monomial multiply(const Monomial& a, const Monomial& b) {
    Monomial out;
    out.reserve(a.size() + b.size());
    std::merge(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(out),
               [](const AtomPtr& x, const AtomPtr& y) { return compare(*x, *y) < 0; });
    return out;
}

}  // namespace

std::int64_t checked_add(std::int64_t a, std::int64_t b) {
    std::int64_t out;
    if (__builtin_add_overflow(a, b, &out)) throw GraphError("a size exceeds 64 bits");
    return out;
}

std::int64_t checked_mul(std::int64_t a, std::int64_t b) {
    std::int64_t out;
    if (__builtin_mul_overflow(a, b, &out)) throw GraphError("a size exceeds 64 bits");
    return out;
}

std::int64_t floor_div_int(std::int64_t a, std::int64_t b) {
    if (b == 0) throw GraphError("division of a size by zero");
    if (b == -1) return checked_mul(a, -1);
    const std::int64_t q = a / b;
    return (a % b != 0 && (a < 0) != (b < 0)) ? q - 1 : q;
}

int compare(const Atom& a, const Atom& b) {
    if (&a == &b) return 0;
    if (a.kind != b.kind) return a.kind < b.kind ? -1 : 1;
    if (a.kind == Atom::Kind::Symbol) return a.name.compare(b.name);
    if (const int c = Dim::compare(a.a, b.a)) return c;
    return Dim::compare(a.b, b.b);
}

int compare(const Monomial& a, const Monomial& b) {
    if (a.size() != b.size()) return a.size() > b.size() ? -1 : 1;
    for (std::size_t i = 0; i < a.size(); i++)
        if (const int c = compare(*a[i], *b[i])) return c;
    return 0;
}

std::vector<Term> DimAccess::terms(const Dim& dim) {
    if (dim.poly_) return dim.poly_->terms;
    if (dim.value_ == 0) return {};
    return {Term{{}, dim.value_}};
}

Dim DimAccess::make(std::vector<Term> terms) {
    std::sort(terms.begin(), terms.end(),
              [](const Term& a, const Term& b) { return compare(a.monomial, b.monomial) < 0; });
    std::vector<Term> merged;
    for (Term& term : terms) {
        if (!merged.empty() && compare(merged.back().monomial, term.monomial) == 0)
            merged.back().coefficient = checked_add(merged.back().coefficient, term.coefficient);
        else
            merged.push_back(std::move(term));
        if (merged.back().coefficient == 0) merged.pop_back();
    }
    if (merged.empty()) return 0;
    if (merged.size() == 1 && merged[0].monomial.empty()) return merged[0].coefficient;
    if (merged.size() > max_terms) throw GraphError("the expression of a size has too many terms");
    Dim out;
    out.poly_ = std::make_shared<const Dim::Poly>(Dim::Poly{std::move(merged)});
    if (weight(out) > max_weight) throw GraphError("the expression of a size grows too long");
    return out;
}

std::size_t DimAccess::weight(const Dim& dim) {
    std::size_t total = 0;
    if (dim.poly_)
        for (const Term& term : dim.poly_->terms)
            for (const AtomPtr& atom : term.monomial) total += atom->weight;
    return total;
}

Dim DimAccess::atom(Atom::Kind kind, const Dim& a, const Dim& b) {
    const std::size_t total = 1 + weight(a) + weight(b);
    return make({Term{{std::make_shared<const Atom>(Atom{kind, {}, a, b, total})}, 1}});
}

Dim Dim::symbol(const std::string& name) {
    const AtomPtr atom = std::make_shared<const Atom>(Atom{Atom::Kind::Symbol, name, 0, 0, 1});
    return DimAccess::make({Term{{atom}, 1}});
}

std::int64_t Dim::value() const {
    if (poly_) throw GraphError("the size '" + to_string() + "' is not known");
    return value_;
}

std::optional<std::int64_t> Dim::constant() const {
    if (poly_) return std::nullopt;
    return value_;
}

std::optional<std::string> Dim::symbol_name() const {
    if (!poly_ || poly_->terms.size() != 1) return std::nullopt;
    const Term& term = poly_->terms[0];
    if (term.coefficient != 1 || term.monomial.size() != 1) return std::nullopt;
    if (term.monomial[0]->kind != Atom::Kind::Symbol) return std::nullopt;
    return term.monomial[0]->name;
}

int Dim::compare(const Dim& a, const Dim& b) {
    if (a.poly_ == b.poly_) return a.value_ < b.value_ ? -1 : a.value_ > b.value_;
    const std::vector<Term> x = DimAccess::terms(a), y = DimAccess::terms(b);
    if (x.size() != y.size()) return x.size() < y.size() ? -1 : 1;
    for (std::size_t i = 0; i < x.size(); i++) {
        if (const int c = kn::compare(x[i].monomial, y[i].monomial)) return c;
        if (x[i].coefficient != y[i].coefficient)
            return x[i].coefficient < y[i].coefficient ? -1 : 1;
    }
    return 0;
}

bool operator==(const Dim& a, const Dim& b) {
    if (a.is_constant() != b.is_constant()) return false;
    return Dim::compare(a, b) == 0;
}

Dim operator+(const Dim& a, const Dim& b) {
    if (!a.poly_ && !b.poly_) return checked_add(a.value_, b.value_);
    std::vector<Term> terms = DimAccess::terms(a);
    for (Term& term : DimAccess::terms(b)) terms.push_back(std::move(term));
    return DimAccess::make(std::move(terms));
}

Dim operator-(const Dim& a, const Dim& b) { return a + b * Dim(-1); }

Dim operator*(const Dim& a, const Dim& b) {
    if (!a.poly_ && !b.poly_) return checked_mul(a.value_, b.value_);
    std::vector<Term> terms;
    const std::vector<Term> x = DimAccess::terms(a), y = DimAccess::terms(b);
    if (x.size() * y.size() > max_terms * max_terms)
        throw GraphError("the expression of a size has too many terms");
    for (const Term& s : x)
        for (const Term& t : y)
            terms.push_back(
                {multiply(s.monomial, t.monomial), checked_mul(s.coefficient, t.coefficient)});
    return DimAccess::make(std::move(terms));
}

namespace {

std::int64_t eval_atom(const Atom& atom, const Bindings& bindings) {
    if (atom.kind == Atom::Kind::Symbol) {
        const auto found = bindings.find(atom.name);
        if (found == bindings.end()) throw GraphError("the dim '" + atom.name + "' has no value");
        return found->second;
    }
    const std::int64_t a = atom.a.eval(bindings), b = atom.b.eval(bindings);
    switch (atom.kind) {
        case Atom::Kind::FloorDiv: return floor_div_int(a, b);
        case Atom::Kind::Min: return std::min(a, b);
        case Atom::Kind::Max: return std::max(a, b);
        case Atom::Kind::Broadcast: return a == 1 ? b : a;
        case Atom::Kind::Symbol: break;
    }
    return 0;
}

Dim substitute_atom(const Atom& atom, const std::map<std::string, Dim>& replacement) {
    if (atom.kind == Atom::Kind::Symbol) {
        const auto found = replacement.find(atom.name);
        return found == replacement.end() ? Dim::symbol(atom.name) : found->second;
    }
    const Dim a = atom.a.substitute(replacement), b = atom.b.substitute(replacement);
    switch (atom.kind) {
        case Atom::Kind::FloorDiv: return floor_div(a, b);
        case Atom::Kind::Min: return min(a, b);
        case Atom::Kind::Max: return max(a, b);
        case Atom::Kind::Broadcast: return broadcast_dim(a, b);
        case Atom::Kind::Symbol: break;
    }
    return 0;
}

}  // namespace

std::int64_t Dim::eval(const Bindings& bindings) const {
    if (!poly_) return value_;
    std::int64_t sum = 0;
    for (const Term& term : poly_->terms) {
        std::int64_t product = term.coefficient;
        for (const AtomPtr& atom : term.monomial)
            product = checked_mul(product, eval_atom(*atom, bindings));
        sum = checked_add(sum, product);
    }
    return sum;
}

Dim Dim::substitute(const Bindings& bindings) const {
    if (!poly_ || bindings.empty()) return *this;
    return substitute(std::map<std::string, Dim>(bindings.begin(), bindings.end()));
}

Dim Dim::substitute(const std::map<std::string, Dim>& replacement) const {
    if (!poly_ || replacement.empty()) return *this;
    Dim sum = 0;
    for (const Term& term : poly_->terms) {
        Dim product = term.coefficient;
        for (const AtomPtr& atom : term.monomial) product *= substitute_atom(*atom, replacement);
        sum += product;
    }
    return sum;
}

void Dim::collect_symbols(std::set<std::string>& out) const {
    if (!poly_) return;
    for (const Term& term : poly_->terms)
        for (const AtomPtr& atom : term.monomial) {
            if (atom->kind == Atom::Kind::Symbol) {
                out.insert(atom->name);
            } else {
                atom->a.collect_symbols(out);
                atom->b.collect_symbols(out);
            }
        }
}

std::optional<std::pair<std::string, std::int64_t>> Dim::solve(std::int64_t target) const {
    if (!poly_ || poly_->terms.empty() || poly_->terms.size() > 2) return std::nullopt;
    const Term& first = poly_->terms[0];
    if (first.monomial.size() != 1 || first.monomial[0]->kind != Atom::Kind::Symbol)
        return std::nullopt;
    std::int64_t rest = target;
    if (poly_->terms.size() == 2) {
        if (!poly_->terms[1].monomial.empty()) return std::nullopt;
        if (__builtin_sub_overflow(target, poly_->terms[1].coefficient, &rest)) return std::nullopt;
    }
    if (rest % first.coefficient != 0 || rest / first.coefficient < 0) return std::nullopt;
    return std::pair(first.monomial[0]->name, rest / first.coefficient);
}

std::size_t Dim::hash() const {
    if (!poly_) return std::hash<std::int64_t>()(value_);
    std::size_t seed = 17;
    for (const Term& term : poly_->terms) {
        seed = detail::hash_mix(seed, std::hash<std::int64_t>()(term.coefficient));
        for (const AtomPtr& atom : term.monomial) {
            seed = detail::hash_mix(seed, static_cast<std::size_t>(atom->kind));
            if (atom->kind == Atom::Kind::Symbol) {
                seed = detail::hash_mix(seed, std::hash<std::string>()(atom->name));
            } else {
                seed = detail::hash_mix(detail::hash_mix(seed, atom->a.hash()), atom->b.hash());
            }
        }
    }
    return seed;
}

}  // namespace kn
