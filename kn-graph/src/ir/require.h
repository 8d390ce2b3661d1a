// What the infer functions check with: each throws GraphError with the numbers where a rule is
// known to be broken, and leaves a constraint in the graph where it cannot be decided yet.
#pragma once

#include <fmt/core.h>

#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <kn/graph/graph.h>

namespace kn::rules {

template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
    throw GraphError(fmt::format(format, std::forward<Args>(args)...));
}

/// "f32[batch, 64]"
std::string describe(const Type& type);

/// The types of an operation with one result. That its elements can be counted is checked by
/// Graph::add.
std::vector<Type> one(DType dtype, Shape shape);

void axis_in_range(std::int64_t axis, std::size_t rank, const char* what = "axis");
/// In range, ascending, none twice.
void axes_sorted(const Ints& axes, std::size_t rank);
/// In range, none twice.
void axes_unique(const Ints& axes, std::size_t rank);
void length_is(const char* what, std::size_t length, std::size_t expected);
void all_positive(const char* what, const Ints& values);
void rank_is(const char* what, const Shape& shape, std::size_t rank);

void dtype_is(const char* what, DType dtype, DType expected);
void dtype_is_float(const char* what, DType dtype);
/// Anything but bool.
void dtype_is_number(const char* what, DType dtype);
void dtype_is_index(const char* what, DType dtype);

/// What a rule is about, for the message if it is broken: a text, or what makes one and is called
/// only then. Refers to what it was made of.
class What {
  public:
    What(const char* text) : data_(text), make_(&from_characters) {}
    What(const std::string& text) : data_(&text), make_(&from_string) {}
    template <class Make>
    requires std::is_invocable_r_v<std::string, const Make&> What(const Make& make)
        : data_(&make), make_([](const void* data) -> std::string {
              return (*static_cast<const Make*>(data))();
          }) {}

    std::string text() const { return make_(data_); }

  private:
    static std::string from_characters(const void* data);
    static std::string from_string(const void* data);

    const void* data_;
    std::string (*make_)(const void* data);
};

/// a >= b. `what` says what is wrong otherwise: "pads must not be negative".
void at_least(Graph& graph, const Dim& a, const Dim& b, const What& what);
/// Equal dims; gives the one that says more (a number rather than a symbol).
Dim same(Graph& graph, const Dim& a, const Dim& b, const What& what);
/// Equal shapes, dim by dim.
Shape same(Graph& graph, const Shape& a, const Shape& b, const What& what);
/// dim is target or 1.
void fits(Graph& graph, const Dim& dim, const Dim& target, const What& what);
/// A tensor of one element.
void one_element(Graph& graph, const Shape& shape, const What& what);

}  // namespace kn::rules
