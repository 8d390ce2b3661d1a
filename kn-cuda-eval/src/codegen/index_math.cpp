#include "codegen/index_math.h"

#include <algorithm>
#include <numeric>

#include <fmt/core.h>

#include "codegen/emit.h"

namespace kn::cuda {

namespace {

bool is_number(const std::string& text) {
    return !text.empty() && std::all_of(text.begin() + (text[0] == '-' && text.size() > 1),
                                        text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

bool is_name(const std::string& text) {  // or an element of a lane array
    const std::size_t size = text.ends_with("[j]") ? text.size() - 3 : text.size();
    return size > 0 &&
           std::all_of(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(size), is_word);
}

/// Calls f with each identifier.
template <class F>
void for_each_name(const std::string& text, const F& f) {
    for (std::size_t i = 0; i < text.size();) {
        std::size_t end = i;
        while (end < text.size() && is_word(text[end])) ++end;
        if (end > i && std::isdigit(static_cast<unsigned char>(text[i])) == 0)
            f(text.substr(i, end - i));
        i = std::max(end, i + 1);
    }
}

bool names(const std::string& text, const std::string& name) {
    for (auto at = text.find(name); at != std::string::npos; at = text.find(name, at + 1)) {
        const std::size_t end = at + name.size();
        if ((at == 0 || !is_word(text[at - 1])) && (end == text.size() || !is_word(text[end])))
            return true;
    }
    return false;
}

std::int64_t product(const Ints& extents, std::size_t from, std::size_t to) {
    std::int64_t result = 1;
    for (std::size_t i = from; i < to; ++i) result *= extents[i];
    return result;
}

}  // namespace

std::string IndexMath::variable(const std::string& name, std::int64_t extent) {
    if (extent == 1) return "0";
    Atom atom;
    atom.high = std::max<std::int64_t>(extent - 1, 0);
    atom.scope = scopes_.size() - 1;
    atoms_[name] = atom;
    return name;
}

std::size_t IndexMath::scope_of(const std::string& text) const {
    std::size_t scope = 0;
    for_each_name(text, [&](const std::string& name) {
        if (name == lane_ || name.starts_with("kn_") || name == "int" || name == "long") return;
        auto found = atoms_.find(name);
        scope = std::max(scope, found == atoms_.end() ? scopes_.size() - 1 : found->second.scope);
    });
    return std::min(scope, scopes_.size() - 1);
}

bool IndexMath::depends(const std::string& text) const {
    bool result = false;
    for_each_name(text, [&](const std::string& name) {
        auto found = atoms_.find(name);
        result = result || name == lane_ || (found != atoms_.end() && found->second.marked);
    });
    return result;
}

std::string IndexMath::define(const std::string& text, std::int64_t extent) {
    if (is_number(text)) return text;
    if (extent == 1) return "0";
    const std::string key = fmt::format("{} in {}", text, extent);
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope)
        if (auto found = scope->names.find(key); found != scope->names.end()) return found->second;
    // What is in the range here only, inside a branch, does not hold outside.
    const auto bounds = range(text);
    const bool only_here = bounds && (bounds->first < 0 || bounds->second >= extent);
    const std::size_t scope = only_here ? scopes_.size() - 1 : scope_of(text);
    const std::string plain = code_.fresh("i");
    const bool outside = scope + 1 < scopes_.size();
    if (outside) code_.enter(scopes_[scope].level);
    std::string name = plain;
    if (varies(text)) {
        code_.line(fmt::format("{} {}[{}];", type(), plain, lanes_));
        code_.line(
            fmt::format("KN_UNROLL for (int j = 0; j < {}; ++j) {}[j] = {};", lanes_, plain, text));
        name += "[j]";
    } else {
        code_.line(fmt::format("const {} {} = {};", type(), plain, text));
    }
    if (outside) code_.leave();
    Atom atom;
    atom.high = std::max<std::int64_t>(extent - 1, 0);
    atom.scope = scope;
    atom.marked = depends(text);
    atoms_[name] = atom;
    if (name != plain) atoms_[plain] = atom;
    scopes_[scope].names[key] = name;
    return name;
}

bool IndexMath::varies(const std::string& text) const {
    return !lane_.empty() && names(text, lane_);
}

IndexMath::Linear IndexMath::linear(const std::string& text) const {
    Linear result;
    if (is_number(text)) {
        result.constant = std::stoll(text);
    } else if (auto found = known_.find(text); found != known_.end()) {
        result = found->second;
    } else {
        result.terms[is_name(text) ? text : "(" + text + ")"] = 1;
    }
    return result;
}

std::string IndexMath::plain_text(const Linear& linear) {
    std::vector<std::pair<std::int64_t, std::string>> terms;
    for (const auto& [name, factor] : linear.terms) terms.emplace_back(factor, name);
    std::sort(terms.begin(), terms.end(), [](const auto& a, const auto& b) {
        return a.first != b.first ? a.first > b.first : a.second < b.second;
    });
    std::string result;
    for (const auto& [factor, name] : terms) {
        const std::int64_t size = factor < 0 ? -factor : factor;
        result += result.empty() ? (factor < 0 ? "-" : "") : (factor < 0 ? " - " : " + ");
        result += size == 1 ? name : fmt::format("{} * {}", name, size);
    }
    if (result.empty()) return fmt::format("{}", linear.constant);
    if (linear.constant > 0) result += fmt::format(" + {}", linear.constant);
    if (linear.constant < 0) result += fmt::format(" - {}", -linear.constant);
    return result;
}

std::string IndexMath::text(Linear linear) {
    std::erase_if(linear.terms, [](const auto& term) { return term.second == 0; });
    merge(linear);
    std::string result = plain_text(linear);
    if (!is_name(result)) known_[result] = std::move(linear);
    return result;
}

void IndexMath::merge(Linear& linear) {
    for (bool changed = true; changed;) {
        changed = false;
        for (const auto& [name, factor] : linear.terms) {
            auto found = atoms_.find(name);
            if (found == atoms_.end() || found->second.family < 0) continue;
            const Atom low = found->second;
            for (const auto& [other, other_factor] : linear.terms) {
                auto upper = atoms_.find(other);
                if (upper == atoms_.end() || upper->second.family != low.family) continue;
                const Atom high = upper->second;
                const Family& family = families_[static_cast<std::size_t>(low.family)];
                if (high.last + 1 != low.first ||
                    other_factor != factor * product(family.extents,
                                                     static_cast<std::size_t>(low.first),
                                                     static_cast<std::size_t>(low.last) + 1))
                    continue;
                const std::int64_t merged_factor = factor;
                const std::string low_name = name, high_name = other;
                linear.terms.erase(low_name);
                linear.terms.erase(high_name);
                const bool whole =
                    high.first == 0 && low.last + 1 == static_cast<int>(family.extents.size());
                const std::string merged =
                    whole ? family.source : digit(low.family, high.first, low.last);
                accumulate(linear, this->linear(merged), merged_factor);
                std::erase_if(linear.terms, [](const auto& term) { return term.second == 0; });
                changed = true;
                break;
            }
            if (changed) break;
        }
    }
}

int IndexMath::family(const std::string& source, const Ints& extents) {
    auto [found, is_new] =
        family_index_.try_emplace({source, extents}, static_cast<int>(families_.size()));
    if (is_new) families_.push_back({source, extents});
    return found->second;
}

std::string IndexMath::digit(int family_number, int first, int last) {
    const Family family = families_[static_cast<std::size_t>(family_number)];
    const std::size_t count = family.extents.size();
    const std::int64_t weight = product(family.extents, static_cast<std::size_t>(last) + 1, count);
    const std::int64_t extent = product(family.extents, static_cast<std::size_t>(first),
                                        static_cast<std::size_t>(last) + 1);
    std::string expression = is_name(family.source) ? family.source : "(" + family.source + ")";
    if (weight != 1) expression += fmt::format(" / {}", weight);
    if (first != 0) expression += fmt::format(" % {}", extent);
    const std::string name = define(expression, extent);
    Atom& atom = atoms_[name];
    atom.family = family_number;
    atom.first = first;
    atom.last = last;
    return name;
}

std::optional<std::pair<std::int64_t, std::int64_t>> IndexMath::range(const Linear& a) const {
    std::int64_t low = a.constant, high = a.constant;
    for (const auto& [name, factor] : a.terms) {
        auto found = atoms_.find(name);
        if (found == atoms_.end()) return std::nullopt;
        const std::int64_t x = found->second.low * factor, y = found->second.high * factor;
        low += std::min(x, y);
        high += std::max(x, y);
    }
    return std::pair{low, high};
}

std::optional<std::pair<std::int64_t, std::int64_t>> IndexMath::range(
    const std::string& text) const {
    return range(linear(text));
}

std::optional<std::int64_t> IndexMath::constant(const std::string& text) const {
    if (is_number(text)) return std::stoll(text);
    return std::nullopt;
}

void IndexMath::accumulate(Linear& to, const Linear& from, std::int64_t factor) {
    for (const auto& [name, f] : from.terms) to.terms[name] += f * factor;
    to.constant += from.constant * factor;
}

std::optional<std::pair<IndexMath::Linear, IndexMath::Linear>> IndexMath::try_divide(
    const Linear& a, std::int64_t divisor) const {
    Linear quotient, rest;
    for (const auto& [name, factor] : a.terms) {
        if (factor % divisor == 0)
            quotient.terms[name] = factor / divisor;
        else
            rest.terms[name] = factor;
    }
    rest.constant = (a.constant % divisor + divisor) % divisor;
    quotient.constant = (a.constant - rest.constant) / divisor;
    const auto bounds = range(rest);
    if (!bounds || bounds->first < 0 || bounds->second >= divisor) return std::nullopt;
    return std::pair{quotient, rest};
}

std::optional<IndexMath::Factored> IndexMath::factor_out(const Linear& a,
                                                         std::int64_t divisor) const {
    std::vector<std::int64_t> factors;
    for (const auto& term : a.terms) factors.push_back(std::abs(term.second));
    std::sort(factors.begin(), factors.end());
    for (std::size_t first = 0; first < factors.size(); ++first) {
        std::int64_t common = divisor;
        for (std::size_t i = first; i < factors.size(); ++i) common = std::gcd(common, factors[i]);
        if (common <= 1) continue;
        if (auto parts = try_divide(a, common))
            return Factored{parts->first, parts->second, common};
    }
    return std::nullopt;
}

Index IndexMath::split(const std::string& number, const Ints& extents) {
    Index result(extents.size(), "0");
    Linear rest = linear(number);
    std::size_t axis = extents.size();
    while (axis > 0) {
        bool last = true;  // whether all axes in front have one element only
        for (std::size_t i = 0; i + 1 < axis; ++i) last = last && extents[i] == 1;
        if (last) {
            result[axis - 1] = extents[axis - 1] == 1 ? "0" : text(rest);
            return result;
        }
        const std::int64_t extent = extents[axis - 1];
        if (extent == 1) {
            --axis;
            continue;
        }
        // One axis, or several at once where only their product divides.
        std::optional<std::pair<Linear, Linear>> parts;
        std::size_t first = axis;
        std::int64_t together = 1;
        while (!parts && first > 0) {
            together *= extents[--first];
            if (first == 0) break;
            parts = try_divide(rest, together);
        }
        if (!parts) break;
        if (first + 1 == axis) {
            result[axis - 1] = text(parts->second);
        } else {
            const Ints run(extents.begin() + static_cast<std::ptrdiff_t>(first),
                           extents.begin() + static_cast<std::ptrdiff_t>(axis));
            const Index digits = split(text(parts->second), run);
            std::copy(digits.begin(), digits.end(),
                      result.begin() + static_cast<std::ptrdiff_t>(first));
        }
        rest = parts->first;
        axis = first;
    }
    if (axis == 0) return result;
    // No more without divisions. First what all terms share, so that the rest has short numbers.
    if (auto factored = factor_out(rest, extents[axis - 1]); factored && factored->factor > 1) {
        Ints smaller(extents.begin(), extents.begin() + static_cast<std::ptrdiff_t>(axis));
        smaller.back() /= factored->factor;
        const Index digits = split(text(factored->multiple), smaller);
        for (std::size_t i = 0; i < axis; ++i) result[i] = digits[i];
        Linear sum = linear(result[axis - 1]);
        Linear scaled;
        accumulate(scaled, sum, factored->factor);
        accumulate(scaled, factored->rest, 1);
        result[axis - 1] = text(scaled);
        return result;
    }
    Ints kept;
    std::vector<std::size_t> axes;
    for (std::size_t i = 0; i < axis; ++i) {
        if (extents[i] == 1) continue;
        kept.push_back(extents[i]);
        axes.push_back(i);
    }
    const int number_of_family = family(text(rest), kept);
    for (std::size_t i = 0; i < axes.size(); ++i)
        result[axes[i]] = digit(number_of_family, static_cast<int>(i), static_cast<int>(i));
    return result;
}

std::string IndexMath::join(const Index& index, const Ints& extents) {
    Ints strides(extents.size(), 1);
    for (std::size_t i = extents.size(); i-- > 1;) strides[i - 1] = strides[i] * extents[i];
    return dot(index, strides);
}

std::string IndexMath::add(const std::string& a, const std::string& b) {
    Linear result = linear(a);
    accumulate(result, linear(b), 1);
    return text(std::move(result));
}

std::string IndexMath::add(const std::string& a, std::int64_t b) {
    if (b == 0) return a;
    Linear result = linear(a);
    result.constant += b;
    return text(std::move(result));
}

std::string IndexMath::mul(const std::string& a, std::int64_t factor) {
    if (factor == 1) return a;
    Linear result;
    if (factor != 0) accumulate(result, linear(a), factor);
    return text(std::move(result));
}

std::string IndexMath::div(const std::string& a, std::int64_t divisor) {
    if (divisor == 1) return a;
    const Linear whole = linear(a);
    if (auto parts = try_divide(whole, divisor)) return text(parts->first);
    if (auto factored = factor_out(whole, divisor); factored && factored->factor < divisor)
        return div(text(factored->multiple), divisor / factored->factor);
    const auto bounds = range(whole);
    const std::int64_t extent = bounds ? bounds->second / divisor + 1 : INT64_MAX;
    if (!bounds) return define(fmt::format("({}) / {}", a, divisor), extent);
    return digit(family(a, {extent, divisor}), 0, 0);
}

std::string IndexMath::mod(const std::string& a, std::int64_t divisor) {
    if (divisor == 1) return "0";
    const Linear whole = linear(a);
    if (auto parts = try_divide(whole, divisor)) return text(parts->second);
    if (auto factored = factor_out(whole, divisor); factored && factored->factor < divisor) {
        Linear result;
        accumulate(result, linear(mod(text(factored->multiple), divisor / factored->factor)),
                   factored->factor);
        accumulate(result, factored->rest, 1);
        return text(std::move(result));
    }
    const auto bounds = range(whole);
    if (!bounds) return define(fmt::format("({}) % {}", a, divisor), divisor);
    return digit(family(a, {bounds->second / divisor + 1, divisor}), 1, 1);
}

std::string IndexMath::dot(const Index& index, const Ints& strides, std::int64_t offset) {
    Linear result;
    result.constant = offset;
    for (std::size_t i = 0; i < index.size(); ++i)
        if (strides[i] != 0) accumulate(result, linear(index[i]), strides[i]);
    return text(std::move(result));
}

std::optional<IndexMath::Part> IndexMath::part(const std::string& whole,
                                               const std::string& variable) {
    Linear rest = linear(whole);
    Part result;
    if (auto found = rest.terms.find(variable); found != rest.terms.end()) {
        result.factor = found->second;
        rest.terms.erase(found);
    }
    result.granularity = std::abs(rest.constant);
    for (const auto& [name, factor] : rest.terms) {
        if (names(name, variable)) return std::nullopt;
        result.granularity = std::gcd(result.granularity, factor);
    }
    result.rest = text(std::move(rest));
    return result;
}

}  // namespace kn::cuda
