// Field visitors behind ops.h: every Value inside an operation, whatever the field that holds it.
#pragma once

#include <type_traits>

#include <kn/graph/ops.h>

namespace kn::detail {

template <class F, class Field>
void visit_values(F&& f, Field& field) {
    using T = std::remove_const_t<Field>;
    if constexpr (std::is_same_v<T, Value>) {
        f(field);
    } else if constexpr (std::is_same_v<T, std::optional<Value>>) {
        if (field) f(*field);
    } else if constexpr (std::is_same_v<T, std::vector<Value>>) {
        for (auto& value : field) f(value);
    }
}

template <class F, class AnyOperation>
void visit_fields(F&& f, AnyOperation& operation) {
    std::visit(
        [&](auto& op) {
            if constexpr (!std::is_same_v<
                              std::remove_const_t<std::remove_reference_t<decltype(op)>>,
                              std::monostate>)
                op.each_field([&](const char* name, auto& field) { f(name, field); });
        },
        operation);
}

}  // namespace kn::detail

namespace kn {

template <class Map>
Operation map_inputs(Operation operation, Map&& map) {
    detail::visit_fields(
        [&](const char*, auto& field) {
            detail::visit_values([&](Value& value) { value = map(value); }, field);
        },
        operation);
    return operation;
}

}  // namespace kn
