// The constants that a text of src/kernels is written for.
//
//     Defines constants{{"KN_ROWS", 64}, {"KN_CAUSAL", 1}};
//     return constants.around(std::string(kernel_text("attention_tensor")));
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

namespace kn::cuda {

class Defines {
  public:
    Defines(std::initializer_list<std::pair<const char*, std::int64_t>> values) : values_(values) {}

    /// The text, with the constants as macros inside it only.
    std::string around(const std::string& text) const {
        std::string result = "\n", end;
        for (const auto& [name, value] : values_) {
            result += std::string("#define ") + name + " " + std::to_string(value) + "\n";
            end += std::string("#undef ") + name + "\n";
        }
        return result + text + end;
    }

  private:
    std::vector<std::pair<const char*, std::int64_t>> values_;
};

}  // namespace kn::cuda
