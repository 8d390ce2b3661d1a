// The canonical form behind Dim: a sum of integer multiples of products of atoms.
#pragma once

#include <string>
#include <vector>

#include <kn/graph/dim.h>

namespace kn {

/// A symbol, or a function of two Dims that does not simplify further.
struct Atom {
    enum class Kind { Symbol, FloorDiv, Min, Max, Broadcast };
    Kind kind;
    std::string name;        // Symbol only
    Dim a, b;                // the others
    std::size_t weight = 1;  // atoms below and this one, each as often as it is written
};
using AtomPtr = std::shared_ptr<const Atom>;

/// Sorted atoms, repeated for powers.
using Monomial = std::vector<AtomPtr>;

struct Term {
    Monomial monomial;
    std::int64_t coefficient = 0;  // never 0
};

/// Sorted by monomial, higher degree first; the constant, if any, comes last. Never a lone
/// constant: Dim keeps that itself.
struct Dim::Poly {
    std::vector<Term> terms;
};

int compare(const Atom& a, const Atom& b);
int compare(const Monomial& a, const Monomial& b);

/// Access for the functions that work on the form.
struct DimAccess {
    static std::vector<Term> terms(const Dim& dim);
    /// Sorts, merges and drops zeros.
    static Dim make(std::vector<Term> terms);
    static Dim atom(Atom::Kind kind, const Dim& a, const Dim& b);
    /// How many atoms the text has.
    static std::size_t weight(const Dim& dim);
};

std::int64_t checked_add(std::int64_t a, std::int64_t b);
std::int64_t checked_mul(std::int64_t a, std::int64_t b);
std::int64_t floor_div_int(std::int64_t a, std::int64_t b);

}  // namespace kn
