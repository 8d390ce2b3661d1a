#include "onnx/random_weights.h"

#include <cmath>

namespace kn::onnx {

namespace {

/// SplitMix64.
struct Random {
    std::uint64_t state;
    std::uint64_t next() {
        std::uint64_t z = (state += 0x9E3779B97F4A7C15u);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        return z ^ (z >> 31);
    }
    /// About N(0, 1): the sum of four uniform numbers.
    float normal() {
        const std::uint64_t bits = next();
        float sum = 0;
        for (int i = 0; i < 4; ++i)
            sum += static_cast<float>((bits >> (16 * i)) & 0xFFFF) / 65536.0f;
        return (sum - 2.0f) * 1.7320508f;
    }
    float uniform() { return static_cast<float>(next() >> 40) / 16777216.0f; }
};

template <class T, class Convert>
void fill(Tensor& tensor, Random& random, float scale, Convert convert) {
    for (T& value : tensor.mutable_data<T>())
        value = convert(tensor.rank() >= 2 ? random.normal() * scale : 0.5f + random.uniform());
}

}  // namespace

Tensor random_weight(std::uint64_t seed, const std::string& name, DType dtype, const Ints& shape) {
    std::uint64_t hash = 0xCBF29CE484222325u ^ seed;
    for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
    Random random{hash};
    Tensor result(dtype, shape);
    if (result.size() == 0) return result;
    std::int64_t fan_in = 1;
    if (shape.size() == 2) fan_in = shape[0];
    if (shape.size() > 2) fan_in = result.size() / shape[0];
    const float scale = 1.0f / std::sqrt(static_cast<float>(fan_in));
    switch (dtype) {
        case DType::F16:
            fill<half>(result, random, scale, [](float x) { return to_half(x); });
            break;
        case DType::BF16:
            fill<bfloat16>(result, random, scale, [](float x) { return to_bfloat16(x); });
            break;
        case DType::F64:
            fill<double>(result, random, scale, [](float x) { return static_cast<double>(x); });
            break;
        default: fill<float>(result, random, scale, [](float x) { return x; }); break;
    }
    return result;
}

}  // namespace kn::onnx
