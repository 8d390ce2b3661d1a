#include <kn/graph/error.h>

#include <fmt/core.h>

namespace kn {

void throw_internal(const char* file, int line, const char* condition, const std::string& detail) {
    std::string_view path(file);
    path.remove_prefix(path.rfind('/') + 1);  // npos + 1 is 0
    throw InternalError(fmt::format("internal error at {}:{}: {} does not hold{}{}", path, line,
                                    condition, detail.empty() ? "" : ": ", detail));
}

namespace {

/// Bytes of the valid UTF-8 character at `text[i]`, 0 if there is none. Overlong forms, surrogates
/// and the C1 control characters do not count as valid.
std::size_t utf8_length(const std::string& text, std::size_t i) {
    const auto byte = [&](std::size_t k) -> unsigned {
        return static_cast<unsigned char>(text[k]);
    };
    const unsigned first = byte(i);
    if (first < 0x80) return first >= 0x20 && first != 0x7f ? 1 : 0;
    const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || i + length > text.size()) return 0;
    unsigned code = first & (0x7fu >> length);
    for (std::size_t k = i + 1; k < i + length; ++k) {
        if ((byte(k) & 0xc0) != 0x80) return 0;
        code = code << 6 | (byte(k) & 0x3f);
    }
    constexpr unsigned smallest[] = {0, 0, 0xa0, 0x800, 0x10000};
    const bool surrogate = code >= 0xd800 && code <= 0xdfff;
    return code >= smallest[length] && code <= 0x10ffff && !surrogate ? length : 0;
}

}  // namespace

std::string printable(const std::string& text, std::size_t max_length) {
    std::string result;
    for (std::size_t i = 0; i < text.size();) {
        const std::size_t length = utf8_length(text, i);
        const std::string piece =
            length > 0 ? text.substr(i, length)
                       : fmt::format("\\x{:02X}", static_cast<unsigned char>(text[i]));
        if (result.size() + piece.size() > max_length) return result + "...";
        result += piece;
        i += length > 0 ? length : 1;
    }
    return result;
}

}  // namespace kn
