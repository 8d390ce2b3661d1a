// Division, minimum, maximum and what can be proved about Dims.
#include <algorithm>
#include <numeric>

#include <kn/graph/dim.h>
#include <kn/graph/error.h>

#include "ir/dim_poly.h"

namespace kn {

namespace {

// `a` without the atoms of `b`, if all of those are in it.
std::optional<Monomial> divide(const Monomial& a, const Monomial& b) {
    Monomial rest;
    std::size_t j = 0;
    for (const AtomPtr& atom : a) {
        if (j < b.size() && compare(*atom, *b[j]) == 0)
            j++;
        else
            rest.push_back(atom);
    }
    if (j != b.size()) return std::nullopt;
    return rest;
}

struct Division {
    Dim quotient;
    Dim remainder;  // a == quotient * b + remainder
};

// Long division by the leading term, for as long as it divides.
Division divide(const Dim& a, const Dim& b) {
    const Term lead = DimAccess::terms(b)[0];
    Division out{0, 0};
    Dim rest = a;
    for (int step = 0; step < 64 && !(rest == Dim(0)); step++) {
        const Term top = DimAccess::terms(rest)[0];
        const auto monomial = divide(top.monomial, lead.monomial);
        Dim taken = DimAccess::make({top});
        if (monomial && top.coefficient % lead.coefficient == 0) {
            const Dim q = DimAccess::make({Term{*monomial, top.coefficient / lead.coefficient}});
            out.quotient += q;
            taken = q * b;
        } else {
            out.remainder += taken;
        }
        rest -= taken;
    }
    out.remainder += rest;
    return out;
}

// floor(a / n) for a number n > 1 and an expression.
Dim floor_div_number(const Dim& a, std::int64_t n) {
    Dim quotient = 0, rest = 0;
    std::int64_t constant = 0, common = n;
    for (const Term& term : DimAccess::terms(a)) {
        const std::int64_t q = floor_div_int(term.coefficient, n);
        const std::int64_t r = term.coefficient - q * n;
        quotient += DimAccess::make({Term{term.monomial, q}});
        if (term.monomial.empty()) {
            constant = r;
        } else if (r != 0) {
            rest += DimAccess::make({Term{term.monomial, r}});
            common = std::gcd(common, r);
        }
    }
    if (rest.is_constant()) return quotient;  // what is left is a number in [0, n)
    if (common > 1) {
        std::vector<Term> terms = DimAccess::terms(rest);
        for (Term& term : terms) term.coefficient /= common;
        const Dim smaller = DimAccess::make(std::move(terms)) + constant / common;
        return quotient + floor_div(smaller, n / common);
    }
    // floor((floor(x / m) + c) / n) = floor((x + c m) / (m n))
    const std::vector<Term> terms = DimAccess::terms(rest);
    if (terms.size() == 1 && terms[0].coefficient == 1 && terms[0].monomial.size() == 1) {
        const Atom& atom = *terms[0].monomial[0];
        if (atom.kind == Atom::Kind::FloorDiv && atom.b.is_constant() && atom.b.value() > 0) {
            const Dim m = atom.b;
            return quotient + floor_div(atom.a + m * constant, m * n);
        }
    }
    return quotient + DimAccess::atom(Atom::Kind::FloorDiv, rest + constant, n);
}

std::optional<std::int64_t> atom_lower_bound(const Atom& atom) {
    if (atom.kind == Atom::Kind::Symbol) return 0;
    const auto a = atom.a.lower_bound(), b = atom.b.lower_bound();
    switch (atom.kind) {
        case Atom::Kind::FloorDiv:
            if (a && *a >= 0 && b && *b >= 1) return atom.b.is_constant() ? *a / atom.b.value() : 0;
            return std::nullopt;
        case Atom::Kind::Max:
            if (a && b) return std::max(*a, *b);
            return a ? a : b;
        case Atom::Kind::Min:
        case Atom::Kind::Broadcast:
            if (a && b) return std::min(*a, *b);
            return std::nullopt;
        case Atom::Kind::Symbol: break;
    }
    return std::nullopt;
}

// A bound of dim by replacing a subtracted atom by something that is at least as large (or by each
// of the two candidates of a maximum).
std::optional<std::int64_t> relax(const Dim& dim, int depth);

std::optional<std::int64_t> lower_bound(const Dim& dim, int depth) {
    std::int64_t sum = 0;
    for (const Term& term : DimAccess::terms(dim)) {
        if (term.monomial.empty()) {
            sum = checked_add(sum, term.coefficient);
            continue;
        }
        if (term.coefficient < 0) return relax(dim, depth);
        std::int64_t product = term.coefficient;
        for (const AtomPtr& atom : term.monomial) {
            const auto bound = atom_lower_bound(*atom);
            if (!bound || *bound < 0) {
                if (term.monomial.size() == 1 && bound) {
                    product = checked_mul(product, *bound);
                    continue;
                }
                return std::nullopt;
            }
            product = checked_mul(product, *bound);
        }
        sum = checked_add(sum, product);
    }
    return sum;
}

std::optional<std::int64_t> relax(const Dim& dim, int depth) {
    if (depth == 0) return std::nullopt;
    for (const Term& term : DimAccess::terms(dim)) {
        if (term.coefficient >= 0 || term.monomial.size() != 1) continue;
        const Atom& atom = *term.monomial[0];
        const Dim rest = dim - DimAccess::make({term});
        const Dim c = -term.coefficient;
        switch (atom.kind) {
            case Atom::Kind::FloorDiv:
                // rest - c floor(a / m) >= rest - c a / m, and m times that is whole
                if (atom.b.is_constant() && atom.b.value() > 0) {
                    const auto bound = lower_bound(rest * atom.b - c * atom.a, depth - 1);
                    if (bound) return -floor_div_int(-*bound, atom.b.value());
                }
                break;
            case Atom::Kind::Min:
                for (const Dim& x : {atom.a, atom.b})
                    if (const auto bound = lower_bound(rest - c * x, depth - 1)) return bound;
                break;
            case Atom::Kind::Max:
            case Atom::Kind::Broadcast: {
                const auto a = lower_bound(rest - c * atom.a, depth - 1);
                const auto b = lower_bound(rest - c * atom.b, depth - 1);
                if (a && b) return std::min(*a, *b);
                break;
            }
            case Atom::Kind::Symbol: break;
        }
    }
    return std::nullopt;
}

}  // namespace

Dim floor_div(const Dim& a, const Dim& b) {
    if (b == Dim(0)) throw GraphError("division of the size '" + a.to_string() + "' by zero");
    if (a.is_constant() && b.is_constant()) return floor_div_int(a.value(), b.value());
    if (a == Dim(0)) return 0;
    if (b.is_constant()) {
        if (b.value() == 1) return a;
        if (b.value() < 0) return floor_div(-a, -b);
        return floor_div_number(a, b.value());
    }
    const Division division = divide(a, b);
    const Dim& rest = division.remainder;
    if (rest == Dim(0)) return division.quotient;
    if (provably_ge(rest, 0) && provably_gt(b, rest)) return division.quotient;
    return division.quotient + DimAccess::atom(Atom::Kind::FloorDiv, rest, b);
}

Dim ceil_div(const Dim& a, const Dim& b) { return floor_div(a + b - 1, b); }

Dim mod(const Dim& a, const Dim& b) { return a - b * floor_div(a, b); }

Dim min(const Dim& a, const Dim& b) {
    if (provably_ge(a, b)) return b;
    if (provably_ge(b, a)) return a;
    return Dim::compare(a, b) <= 0 ? DimAccess::atom(Atom::Kind::Min, a, b)
                                   : DimAccess::atom(Atom::Kind::Min, b, a);
}

Dim max(const Dim& a, const Dim& b) {
    if (provably_ge(a, b)) return a;
    if (provably_ge(b, a)) return b;
    return Dim::compare(a, b) <= 0 ? DimAccess::atom(Atom::Kind::Max, a, b)
                                   : DimAccess::atom(Atom::Kind::Max, b, a);
}

namespace {

// min(dim, c) with c >= 1: never more than dim, and 1 where dim is.
bool is_cut_of(const Dim& cut, const Dim& dim) {
    const std::vector<Term> terms = DimAccess::terms(cut);
    if (terms.size() != 1 || terms[0].coefficient != 1 || terms[0].monomial.size() != 1)
        return false;
    const Atom& atom = *terms[0].monomial[0];
    if (atom.kind != Atom::Kind::Min) return false;
    return (atom.a == dim && provably_ge(atom.b, 1)) || (atom.b == dim && provably_ge(atom.a, 1));
}

// The dims that a broadcast dim is made of.
void collect_parts(const Dim& dim, std::vector<Dim>& out) {
    const std::vector<Term> terms = DimAccess::terms(dim);
    const bool alone =
        terms.size() == 1 && terms[0].coefficient == 1 && terms[0].monomial.size() == 1;
    if (alone && terms[0].monomial[0]->kind == Atom::Kind::Broadcast) {
        collect_parts(terms[0].monomial[0]->a, out);
        collect_parts(terms[0].monomial[0]->b, out);
    } else {
        out.push_back(dim);
    }
}

// Whether broadcasting with `part` leaves `whole` as it is: it went into it before.
bool is_within(const Dim& part, const Dim& whole) {
    std::vector<Dim> parts, of;
    collect_parts(part, parts);
    collect_parts(whole, of);
    return std::ranges::all_of(parts,
                               [&](const Dim& p) { return std::ranges::find(of, p) != of.end(); });
}

}  // namespace

Dim broadcast_dim(const Dim& a, const Dim& b) {
    if (a == b || b == Dim(1)) return a;
    if (a == Dim(1)) return b;
    // A table of c rows cut to the size of what it is added to.
    if (is_cut_of(b, a)) return a;
    if (is_cut_of(a, b)) return b;
    // The other one is then 1 or the same.
    if (a.is_constant()) return a;
    if (b.is_constant()) return b;
    if (is_within(b, a)) return a;
    if (is_within(a, b)) return b;
    return DimAccess::atom(Atom::Kind::Broadcast, a, b);
}

std::optional<std::int64_t> Dim::lower_bound() const { return kn::lower_bound(*this, 6); }

bool provably_ge(const Dim& a, const Dim& b) {
    const auto bound = (a - b).lower_bound();
    return bound && *bound >= 0;
}

bool provably_gt(const Dim& a, const Dim& b) { return provably_ge(a, b + 1); }

}  // namespace kn
