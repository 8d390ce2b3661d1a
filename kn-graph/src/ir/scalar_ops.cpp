#include <kn/graph/scalar_ops.h>

namespace kn {

const ScalarRow& row_of(UnaryOp op) {
    static constexpr ScalarRow rows[] = {
#define X(name, text, accepts, gives, ...) \
    {#name, text, Accepts::accepts, Gives::gives, #__VA_ARGS__},
        KN_UNARY_OPS(X)
#undef X
    };
    return rows[static_cast<std::size_t>(op)];
}

const ScalarRow& row_of(BinaryOp op) {
    static constexpr ScalarRow rows[] = {
#define X(name, text, accepts, gives, ...) \
    {#name, text, Accepts::accepts, Gives::gives, #__VA_ARGS__},
        KN_BINARY_OPS(X)
#undef X
    };
    return rows[static_cast<std::size_t>(op)];
}

bool accepts(Accepts accepted, DType dtype) {
    switch (accepted) {
        case Accepts::Float: return is_float(dtype);
        case Accepts::Signed: return is_float(dtype) || is_signed_int(dtype);
        case Accepts::Numeric: return dtype != DType::Bool;
        case Accepts::Int: return is_int(dtype);
        case Accepts::Bool: return dtype == DType::Bool;
        case Accepts::BoolInt: return dtype == DType::Bool || is_int(dtype);
        case Accepts::Any: return true;
    }
    return false;
}

}  // namespace kn
