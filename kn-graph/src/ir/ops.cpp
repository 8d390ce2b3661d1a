#include <kn/graph/ops.h>

#include "ir/fields.h"

namespace kn {

bool op::Constant::operator==(const Constant& other) const {
    if (data == other.data) return true;
    return data->name == other.data->name && data->frozen == other.data->frozen &&
           data->recipe == other.data->recipe &&
           detail::same_elements(data->tensor, other.data->tensor);
}

std::string_view name_of(const Operation& operation) {
    static constexpr std::string_view names[] = {
#define X(name) #name,
        KN_OPERATIONS(X)
#undef X
            "None"};
    return names[operation.index()];
}

std::vector<Value> inputs_of(const Operation& operation) {
    std::vector<Value> out;
    detail::visit_fields(
        [&](const char*, const auto& field) {
            detail::visit_values([&](const Value& value) { out.push_back(value); }, field);
        },
        operation);
    return out;
}

std::string to_string(const Operation& operation) {
    std::string out = std::string(name_of(operation)) + "(";
    bool first = true;
    detail::visit_fields(
        [&](const char* name, const auto& field) {
            if constexpr (requires { field.has_value(); })
                if (!field.has_value()) return;
            out += (first ? "" : ", ") + std::string(name) + "=" + detail::text_of(field);
            first = false;
        },
        operation);
    return out + ")";
}

bool is_elementwise(const Operation& operation) {
    return is_any_of<op::Unary, op::Binary, op::Select, op::Cast>(operation);
}

}  // namespace kn
