// Arguments of benchmarks of single steps: [--variants] [--precision f32|f16|bf16] CASE...
#pragma once

#include <map>
#include <string>
#include <vector>

#include <kn/graph/dtype.h>

namespace kn::bench {

struct Arguments {
    bool variants = false;
    DType dtype = DType::F16;
    std::vector<std::string> cases;
};

/// Throws std::out_of_range where the precision is another.
inline Arguments parse_arguments(int argc, char** argv) {
    const std::map<std::string, DType> dtypes = {
        {"f32", DType::F32}, {"f16", DType::F16}, {"bf16", DType::BF16}};
    Arguments arguments;
    const std::vector<std::string> words(argv + 1, argv + argc);
    for (std::size_t i = 0; i < words.size(); ++i) {
        if (words[i] == "--variants")
            arguments.variants = true;
        else if (words[i] == "--precision")
            arguments.dtype = dtypes.at(words.at(++i));
        else
            arguments.cases.push_back(words[i]);
    }
    return arguments;
}

}  // namespace kn::bench
