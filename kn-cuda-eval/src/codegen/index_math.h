// Index arithmetic as C text, simplified where the ranges of its variables allow.
//
// Every index is a linear form over variables (loop counters, digits of a thread number, what was
// read from memory). Divisions and remainders by sizes vanish where the form allows, and digits of
// one number that are put together again become the number: a chain of Reshapes costs nothing, and
// a tensor that is contiguous is addressed by the thread number itself.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include <kn/graph/shape.h>

namespace kn::cuda {

class Code;
using Index = std::vector<std::string>;

class IndexMath {
  public:
    /// `wide`: index variables have 64 bits.
    IndexMath(Code& code, bool wide) : code_(code), wide_(wide) { scopes_.emplace_back(); }

    const char* type() const { return wide_ ? "long long" : "int"; }

    /// Says that `name`, an identifier, is in [0, extent). Gives the name, or "0" for one value.
    std::string variable(const std::string& name, std::int64_t extent);
    /// `text` as a variable of its own whose range is known to be [0, extent).
    std::string define(const std::string& text, std::int64_t extent);
    /// The index whose row-major number in `extents` is `number`.
    Index split(const std::string& number, const Ints& extents);
    std::string join(const Index& index, const Ints& extents);

    std::string add(const std::string& a, const std::string& b);
    std::string add(const std::string& a, std::int64_t b);
    std::string mul(const std::string& a, std::int64_t factor);
    /// Of numbers >= 0.
    std::string div(const std::string& a, std::int64_t divisor);
    std::string mod(const std::string& a, std::int64_t divisor);
    /// sum of index[i] * strides[i], + offset.
    std::string dot(const Index& index, const Ints& strides, std::int64_t offset = 0);

    /// Least and largest value, where known.
    std::optional<std::pair<std::int64_t, std::int64_t>> range(const std::string& text) const;
    /// text = factor * variable + rest with a rest that does not name the variable; nothing if
    /// another part of the text depends on it.
    struct Part {
        std::int64_t factor = 0;
        std::string rest;
        std::int64_t granularity = 0;  ///< divides every factor and the constant of the rest
    };
    std::optional<Part> part(const std::string& text, const std::string& variable);
    std::optional<std::int64_t> constant(const std::string& text) const;

    /// Definitions made inside are forgotten at the end; those that need nothing from inside are
    /// made outside. `level`: of the code.
    void push_scope(std::size_t level) { scopes_.push_back({{}, level}); }
    void pop_scope() { scopes_.pop_back(); }
    struct Scope {
        std::map<std::string, std::string> names;  // definition -> variable
        std::size_t level = 0;
    };
    std::vector<Scope>& scopes() { return scopes_; }
    /// The outermost scope that knows all variables of the text.
    std::size_t scope_of(const std::string& text) const;

    /// The lane variable: definitions that depend on it are arrays of so many.
    void set_lane(const std::string& name, int lanes) {
        lane_ = name;
        lanes_ = lanes;
    }
    bool varies(const std::string& text) const;
    /// Makes definitions from this variable known by depends().
    void mark(const std::string& name) { atoms_[name].marked = true; }
    bool depends(const std::string& text) const;

  private:
    struct Linear {
        std::map<std::string, std::int64_t> terms;
        std::int64_t constant = 0;
    };
    struct Atom {
        std::int64_t low = 0, high = 0;
        int family = -1;
        int first = 0, last = 0;
        bool marked = false;
        std::size_t scope = 0;
    };
    struct Family {
        std::string source;
        Ints extents;
    };

    Linear linear(const std::string& text) const;
    std::string text(Linear linear);
    static std::string plain_text(const Linear& linear);
    void merge(Linear& linear);
    std::string digit(int family, int first, int last);
    std::optional<std::pair<std::int64_t, std::int64_t>> range(const Linear& linear) const;
    /// Quotient and remainder without a division.
    std::optional<std::pair<Linear, Linear>> try_divide(const Linear& a,
                                                        std::int64_t divisor) const;
    /// a = factor * multiple + rest, 0 <= rest < factor, factor > 1 divides `divisor`.
    struct Factored {
        Linear multiple, rest;
        std::int64_t factor;
    };
    std::optional<Factored> factor_out(const Linear& a, std::int64_t divisor) const;
    static void accumulate(Linear& to, const Linear& from, std::int64_t factor);
    int family(const std::string& source, const Ints& extents);

    Code& code_;
    bool wide_;
    std::string lane_;
    int lanes_ = 1;
    std::unordered_map<std::string, Linear> known_;
    std::unordered_map<std::string, Atom> atoms_;
    std::vector<Family> families_;
    std::map<std::pair<std::string, Ints>, int> family_index_;
    std::vector<Scope> scopes_;
};

}  // namespace kn::cuda
