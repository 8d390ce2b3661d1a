// The little of Unicode that tokenizers ask for.
//
//     common::lower_case(common::normal_form_c("E\u0301")) == "\u00e9";
#pragma once

#include <string>
#include <string_view>

namespace common {

/// Whether the bytes are well-formed UTF-8.
bool is_utf8(std::string_view text);
/// Unicode's normalization form C of UTF-8 text. Throws std::runtime_error if it is not UTF-8.
std::string normal_form_c(std::string_view text);
/// Each character's lower case, whatever stands beside it. Throws std::runtime_error if the text is
/// not UTF-8.
std::string lower_case(std::string_view text);

}  // namespace common
