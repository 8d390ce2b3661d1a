#include <kn/graph/random.h>

#include <cmath>
#include <numbers>

namespace kn {

std::uint64_t Random::bits() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

double Random::uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }

double Random::normal() {
    if (has_spare_) {
        has_spare_ = false;
        return spare_;
    }
    const double radius = std::sqrt(-2 * std::log(1 - uniform()));
    const double angle = 2 * std::numbers::pi * uniform();
    spare_ = radius * std::sin(angle);
    has_spare_ = true;
    return radius * std::cos(angle);
}

Tensor random_tensor(DType dtype, const Ints& shape, Random& random) {
    if (is_float(dtype)) {
        Tensor out(DType::F32, shape);
        for (float& x : out.mutable_data<float>()) x = static_cast<float>(random.normal());
        return out.cast(dtype);
    }
    Tensor out(DType::U8, shape);
    for (std::uint8_t& x : out.mutable_data<std::uint8_t>())
        x = static_cast<std::uint8_t>(random.bits() >> 63);
    return out.cast(dtype);
}

std::vector<Tensor> random_inputs(const Graph& graph, const Bindings& dims, std::uint64_t seed) {
    Random random(seed);
    std::vector<Tensor> out;
    for (const NamedValue& input : graph.inputs()) {
        const Shape shape = graph.shape(input.value).substitute(dims);
        if (!shape.is_static())
            throw GraphError("input '" + printable(input.name) + "' has shape " +
                             shape.to_string() + ": give its dims to make random data");
        out.push_back(random_tensor(graph.dtype(input.value), shape.to_ints(), random));
    }
    return out;
}

}  // namespace kn
