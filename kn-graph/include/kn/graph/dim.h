// Dim: a size that may depend on named symbols, kept in a canonical form so that equal sizes
// compare equal.
//
//     kn::Dim seq = kn::Dim::symbol("seq");
//     (seq + seq + 1) == 2 * seq + 1;            // true
//     (2 * seq + 1).eval({{"seq", 8}}) == 17;    // true
//
// A symbol stands for a whole number >= 0. Arithmetic that leaves the 64-bit range throws
// GraphError.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <kn/graph/export.h>

namespace kn {

/// Values of symbols by name.
using Bindings = std::map<std::string, std::int64_t>;

class KN_API Dim {
  public:
    Dim() = default;
    Dim(std::int64_t value) : value_(value) {}  // NOLINT: a number is a Dim
    Dim(int value) : value_(value) {}           // NOLINT

    /// Symbols of the same name are the same.
    static Dim symbol(const std::string& name);

    /// Reads `2*seq + 1`, `a // 2`, `min(a, 4)`, `max`, `mod`, `floor(a/2)`, parentheses. What
    /// cannot be read becomes one symbol of that name, since a file may name a dimension freely.
    static Dim parse(const std::string& text);

    bool is_constant() const { return poly_ == nullptr; }
    /// The number; throws GraphError that names the expression if it is not constant.
    std::int64_t value() const;
    std::optional<std::int64_t> constant() const;
    /// The name, if this is a symbol alone.
    std::optional<std::string> symbol_name() const;

    /// The largest number that the expression can be proved never to fall below, if there is one.
    std::optional<std::int64_t> lower_bound() const;

    /// Throws GraphError that names the symbol if one has no value.
    std::int64_t eval(const Bindings& bindings) const;
    /// Replaces the symbols that have a value and simplifies.
    Dim substitute(const Bindings& bindings) const;
    Dim substitute(const std::map<std::string, Dim>& replacement) const;
    /// Adds the names of its symbols to `out`.
    void collect_symbols(std::set<std::string>& out) const;

    /// If this is `k*symbol + c` over just one symbol: the symbol's value that makes it equal to
    /// `target`, if whole and >= 0.
    std::optional<std::pair<std::string, std::int64_t>> solve(std::int64_t target) const;

    /// "2*seq + 1", as `parse` reads it.
    std::string to_string() const;
    /// Equal Dims have equal hashes.
    std::size_t hash() const;

    friend KN_API Dim operator+(const Dim& a, const Dim& b);
    friend KN_API Dim operator-(const Dim& a, const Dim& b);
    friend KN_API Dim operator*(const Dim& a, const Dim& b);
    Dim& operator+=(const Dim& b) { return *this = *this + b; }
    Dim& operator-=(const Dim& b) { return *this = *this - b; }
    Dim& operator*=(const Dim& b) { return *this = *this * b; }
    Dim operator-() const { return Dim(0) - *this; }

    /// Structural: true if both are provably the same number.
    friend KN_API bool operator==(const Dim& a, const Dim& b);
    /// A total order for containers; it says nothing of the numbers.
    static int compare(const Dim& a, const Dim& b);

    struct Poly;  // the canonical sum of products; defined in dim.cpp

  private:
    friend struct DimAccess;
    std::int64_t value_ = 0;
    std::shared_ptr<const Poly> poly_;  // null: the constant value_
};

/// Rounds towards minus infinity. Throws GraphError on division by zero.
KN_API Dim floor_div(const Dim& a, const Dim& b);
/// floor_div(a + b - 1, b), so b > 0.
KN_API Dim ceil_div(const Dim& a, const Dim& b);
/// a - b * floor_div(a, b)
KN_API Dim mod(const Dim& a, const Dim& b);
KN_API Dim min(const Dim& a, const Dim& b);
KN_API Dim max(const Dim& a, const Dim& b);
/// The size of two broadcast dims: b where a is 1, else a. (That they fit each other is a
/// constraint of its own.)
KN_API Dim broadcast_dim(const Dim& a, const Dim& b);

/// Whether a >= b, a > b for every value of the symbols, as far as it can be proved.
KN_API bool provably_ge(const Dim& a, const Dim& b);
KN_API bool provably_gt(const Dim& a, const Dim& b);

}  // namespace kn
