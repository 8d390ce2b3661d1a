#include "common/unicode.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <stdexcept>

#include "unicode_tables.h"

namespace common {

namespace {

using Code = std::uint32_t;

std::optional<std::u32string> decoded(std::string_view text) {
    std::u32string out;
    for (std::size_t i = 0; i < text.size();) {
        const auto first = static_cast<unsigned char>(text[i]);
        const std::size_t length = first < 0x80   ? 1
                                   : first < 0xC2 ? 0
                                   : first < 0xE0 ? 2
                                   : first < 0xF0 ? 3
                                   : first < 0xF5 ? 4
                                                  : 0;
        if (length == 0 || i + length > text.size()) return {};
        Code code = length == 1 ? first : first & (0x7Fu >> length);
        for (std::size_t k = 1; k < length; k++) {
            const auto next = static_cast<unsigned char>(text[i + k]);
            if ((next & 0xC0u) != 0x80u) return {};
            code = (code << 6) | (next & 0x3Fu);
        }
        constexpr Code least[] = {0, 0, 0x80, 0x800, 0x10000};
        if (code < least[length] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
            return {};
        out += static_cast<char32_t>(code);
        i += length;
    }
    return out;
}

std::u32string decoded_or_throw(std::string_view text) {
    std::optional<std::u32string> out = decoded(text);
    if (!out) throw std::runtime_error("the text is not valid UTF-8");
    return std::move(*out);
}

std::string encoded(const std::u32string& codes) {
    std::string out;
    const auto add = [&](Code bits) { out += static_cast<char>(bits); };
    for (const char32_t c : codes) {
        const auto code = static_cast<Code>(c);
        if (code < 0x80) {
            add(code);
            continue;
        }
        if (code < 0x800) {
            add(0xC0 | (code >> 6));
        } else {
            if (code < 0x10000) {
                add(0xE0 | (code >> 12));
            } else {
                add(0xF0 | (code >> 18));
                add(0x80 | ((code >> 12) & 0x3F));
            }
            add(0x80 | ((code >> 6) & 0x3F));
        }
        add(0x80 | (code & 0x3F));
    }
    return out;
}

bool is_ascii(std::string_view text) {
    return std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

template <class Row>
const Row* find_row(std::span<const Row> rows, Code code) {
    const auto found = std::ranges::lower_bound(rows, code, {}, &Row::code);
    return found != rows.end() && found->code == code ? &*found : nullptr;
}

unsigned combining_class(Code code) {
    const auto& rows = unicode::combining_ranges;
    const auto* found = std::upper_bound(std::begin(rows), std::end(rows), code,
                                         [](Code c, const auto& row) { return c < row.first; });
    if (found == std::begin(rows)) return 0;
    --found;
    return code <= found->last ? found->combining_class : 0;
}

// Hangul syllables are computed, not listed (The Unicode Standard, section 3.12).
constexpr Code syllables = 0xAC00, leads = 0x1100, vowels = 0x1161, trails = 0x11A7;
constexpr Code lead_count = 19, vowel_count = 21, trail_count = 28;

void decompose(Code code, std::u32string& out) {
    if (code >= syllables && code < syllables + lead_count * vowel_count * trail_count) {
        const Code index = code - syllables;
        out += static_cast<char32_t>(leads + index / (vowel_count * trail_count));
        out += static_cast<char32_t>(vowels + index / trail_count % vowel_count);
        if (index % trail_count) out += static_cast<char32_t>(trails + index % trail_count);
        return;
    }
    const auto* row = find_row<unicode::Decomposition>(unicode::decompositions, code);
    if (!row) {
        out += static_cast<char32_t>(code);
        return;
    }
    decompose(row->first, out);
    if (row->second) decompose(row->second, out);
}

std::optional<Code> compose(Code first, Code second) {
    if (first >= leads && first < leads + lead_count && second >= vowels &&
        second < vowels + vowel_count)
        return syllables + ((first - leads) * vowel_count + (second - vowels)) * trail_count;
    const bool open = first >= syllables &&
                      first < syllables + lead_count * vowel_count * trail_count &&
                      (first - syllables) % trail_count == 0;
    if (open && second > trails && second < trails + trail_count) return first + (second - trails);
    static const std::map<std::pair<Code, Code>, Code> pairs = [] {
        std::map<std::pair<Code, Code>, Code> out;
        for (const unicode::Decomposition& row : unicode::decompositions)
            if (row.composes) out[{row.first, row.second}] = row.code;
        return out;
    }();
    const auto found = pairs.find({first, second});
    if (found == pairs.end()) return {};
    return found->second;
}

}  // namespace

bool is_utf8(std::string_view text) { return decoded(text).has_value(); }

std::string normal_form_c(std::string_view text) {
    if (is_ascii(text)) return std::string(text);
    std::u32string codes;
    for (const char32_t c : decoded_or_throw(text)) decompose(static_cast<Code>(c), codes);
    // Marks in a row stand in the order of their classes.
    for (std::size_t i = 0; i < codes.size();) {
        std::size_t end = i;
        while (end < codes.size() && combining_class(codes[end]) > 0) end++;
        std::stable_sort(
            codes.begin() + static_cast<std::ptrdiff_t>(i),
            codes.begin() + static_cast<std::ptrdiff_t>(end),
            [](char32_t a, char32_t b) { return combining_class(a) < combining_class(b); });
        i = std::max(end, i + 1);
    }
    std::u32string out;
    std::size_t starter = 0;
    bool has_starter = false;
    for (const char32_t c : codes) {
        const unsigned own = combining_class(c);
        // A mark joins the starter unless one of its class or higher stands between them.
        const bool adjacent = has_starter && starter + 1 == out.size();
        const bool free =
            has_starter &&
            (adjacent || (combining_class(out.back()) != 0 && combining_class(out.back()) < own));
        if (free)
            if (const auto joined = compose(out[starter], c)) {
                out[starter] = static_cast<char32_t>(*joined);
                continue;
            }
        if (own == 0) {
            starter = out.size();
            has_starter = true;
        }
        out += c;
    }
    return encoded(out);
}

std::string lower_case(std::string_view text) {
    std::u32string out;
    for (const char32_t c : decoded_or_throw(text)) {
        if (c == U'\u0130') {
            out += U"i\u0307";
            continue;
        }
        const auto* row = find_row<unicode::Lower>(unicode::lower_cases, static_cast<Code>(c));
        out += row ? static_cast<char32_t>(row->lower) : c;
    }
    return encoded(out);
}

}  // namespace common
