#include "ir/fields.h"

#include <array>
#include <cstdio>
#include <cstring>
#include <string_view>

namespace kn::detail {

namespace {

// Beyond this, constants are told apart by their storage: their elements are not read before they
// are needed.
constexpr std::size_t small_constant_bytes = 64 * 1024;

template <std::size_t N, class Enum>
std::string pick(const std::array<const char*, N>& names, Enum x) {
    return names.at(static_cast<std::size_t>(x));
}

}  // namespace

bool same_elements(const Tensor& a, const Tensor& b) {
    if (a.dtype() != b.dtype() || a.shape() != b.shape()) return false;
    if (a.identity() == b.identity()) return true;
    return a.byte_size() <= small_constant_bytes &&
           (a.byte_size() == 0 ||
            std::memcmp(a.bytes().data(), b.bytes().data(), a.byte_size()) == 0);
}

std::size_t hash_of(const std::shared_ptr<const ConstantData>& x) {
    const Tensor& t = x->tensor;
    std::size_t seed = hash_mix(hash_of(t.dtype()), hash_of(t.shape()));
    if (t.byte_size() > small_constant_bytes)
        return hash_mix(seed, std::hash<const void*>()(t.identity()));
    const std::string_view bytes(reinterpret_cast<const char*>(t.bytes().data()), t.byte_size());
    return hash_mix(seed, std::hash<std::string_view>()(bytes));
}

std::string text_of(const Value& x) { return "%" + std::to_string(x.index); }
std::string text_of(const std::string& x) { return "'" + printable(x) + "'"; }
std::string text_of(double x) {
    char buffer[32];
    std::snprintf(buffer, sizeof buffer, "%.9g", x);
    return buffer;
}
std::string text_of(bool x) { return x ? "true" : "false"; }
std::string text_of(std::int64_t x) { return std::to_string(x); }
std::string text_of(const Type& x) { return text_of(x.dtype) + x.shape.to_string(); }
std::string text_of(DType x) { return std::string(name_of(x)); }
std::string text_of(UnaryOp x) { return std::string(row_of(x).text); }
std::string text_of(BinaryOp x) { return std::string(row_of(x).text); }

std::string text_of(const std::shared_ptr<const ConstantData>& x) {
    if (!x->name.empty()) return text_of(x->name);
    if (x->tensor.size() > 8) return x->recipe ? "folded" : "...";
    std::string out;
    for (std::int64_t i = 0; i < x->tensor.size(); i++)
        out += (i ? ", " : "") + (is_float(x->tensor.dtype()) ? text_of(x->tensor.at(i))
                                                              : text_of(x->tensor.int_at(i)));
    return x->tensor.rank() == 0 ? out : "[" + out + "]";
}

std::string text_of(const std::shared_ptr<const Graph>& x) {
    return "graph(" + std::to_string(x->size()) + " nodes)";
}

std::string text_of(ReduceOp x) { return pick(std::array{"sum", "mean", "prod", "max", "min"}, x); }
std::string text_of(PadMode x) {
    return pick(std::array{"constant", "reflect", "edge", "wrap"}, x);
}
std::string text_of(ScatterReduction x) {
    return pick(std::array{"none", "add", "mul", "max", "min"}, x);
}
std::string text_of(NormKind x) { return pick(std::array{"mean_variance", "mean_square"}, x); }
std::string text_of(CausalMask x) {
    return pick(std::array{"none", "top_left", "bottom_right"}, x);
}
std::string text_of(ResizeMode x) { return pick(std::array{"nearest", "linear", "cubic"}, x); }
std::string text_of(ResizeCoordinates x) {
    return pick(
        std::array{"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners",
                   "asymmetric", "tf_half_pixel_for_nn", "tf_crop_and_resize"},
        x);
}
std::string text_of(NearestMode x) {
    return pick(std::array{"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"}, x);
}
std::string text_of(GridPadding x) { return pick(std::array{"zeros", "border", "reflection"}, x); }
std::string text_of(CellKind x) { return pick(std::array{"lstm", "gru", "rnn"}, x); }
std::string text_of(CellActivation x) {
    return pick(std::array{"sigmoid", "tanh", "relu", "affine", "leaky_relu", "thresholded_relu",
                           "scaled_tanh", "hard_sigmoid", "elu", "softsign", "softplus"},
                x);
}

}  // namespace kn::detail
