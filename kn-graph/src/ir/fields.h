// Text and hash of every type that a field of an operation has.
#pragma once

#include <functional>
#include <string>

#include <kn/graph/graph.h>

#include "ir/hash_mix.h"

namespace kn::detail {

/// Whether two constants are interchangeable: small ones by their bytes, large ones by their
/// storage.
bool same_elements(const Tensor& a, const Tensor& b);

inline std::size_t hash_of(const Value& x) { return x.index; }
inline std::size_t hash_of(const std::string& x) { return std::hash<std::string>()(x); }
inline std::size_t hash_of(const Dim& x) { return x.hash(); }
inline std::size_t hash_of(double x) { return std::hash<double>()(x); }
inline std::size_t hash_of(const std::shared_ptr<const Graph>& x) {
    return std::hash<const void*>()(x.get());
}
std::size_t hash_of(const std::shared_ptr<const ConstantData>& x);
template <class T>
requires std::is_enum_v<T> || std::is_integral_v<T> std::size_t hash_of(T x) {
    return static_cast<std::size_t>(x);
}
inline std::size_t hash_of(const Shape& x);
inline std::size_t hash_of(const Type& x);
template <class T>
std::size_t hash_of(const std::vector<T>& x) {
    std::size_t seed = x.size();
    for (const T& item : x) seed = hash_mix(seed, hash_of(item));
    return seed;
}
template <class T>
std::size_t hash_of(const std::optional<T>& x) {
    return x ? hash_mix(1, hash_of(*x)) : 0;
}
std::size_t hash_of(const Shape& x) { return hash_of(x.dims()); }
std::size_t hash_of(const Type& x) { return hash_mix(hash_of(x.dtype), hash_of(x.shape)); }

std::string text_of(const Value& x);
std::string text_of(const std::string& x);
std::string text_of(double x);
std::string text_of(bool x);
std::string text_of(std::int64_t x);
inline std::string text_of(const Dim& x) { return x.to_string(); }
inline std::string text_of(const Shape& x) { return x.to_string(); }
std::string text_of(const Type& x);
std::string text_of(const std::shared_ptr<const ConstantData>& x);
std::string text_of(const std::shared_ptr<const Graph>& x);
std::string text_of(DType x);
std::string text_of(UnaryOp x);
std::string text_of(BinaryOp x);
std::string text_of(ReduceOp x);
std::string text_of(PadMode x);
std::string text_of(ScatterReduction x);
std::string text_of(NormKind x);
std::string text_of(CausalMask x);
std::string text_of(ResizeMode x);
std::string text_of(ResizeCoordinates x);
std::string text_of(NearestMode x);
std::string text_of(GridPadding x);
std::string text_of(CellKind x);
std::string text_of(CellActivation x);
template <class T>
std::string text_of(const std::vector<T>& x) {
    std::string out = "[";
    for (const T& item : x) out += (out.size() > 1 ? ", " : "") + text_of(item);
    return out + "]";
}
template <class T>
std::string text_of(const std::optional<T>& x) {
    return x ? text_of(*x) : "none";
}

}  // namespace kn::detail
