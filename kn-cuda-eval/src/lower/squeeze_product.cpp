#include "lower/squeeze_product.h"

#include <fmt/core.h>

#include "planner/ceil_div.h"

namespace kn::cuda {

SqueezeProduct::SqueezeProduct(Code& code, const Squeeze& problem, const SqueezeTiles& tiles,
                               char name, std::int64_t terms, std::int64_t columns,
                               std::string sync)
    : code_(code),
      name_(1, name),
      type_(c_type(problem.dtype)),
      sync_(std::move(sync)),
      threads_(tiles.threads),
      images_(tiles.images),
      lanes_(problem.lanes()),
      terms_(terms),
      columns_(columns),
      tiles_(ceil_div(columns, 8)),
      rounds_(ceil_div(tiles_, threads_ / 32)),
      steps_(ceil_div(terms, block())),
      pitch_((steps_ + 1) * block()) {  // rows begin in different banks
    vector_ = type_of_sums() + "::Weights";
}

void SqueezeProduct::read_from(const std::string& pointer, const std::string& column,
                               std::int64_t elements, const std::string& first) {
    pointer_ = pointer;
    column_ = column;
    elements_ = elements;
    start_ = first;
}

void SqueezeProduct::declare(const std::string& array, std::int64_t count) {
    code_.line(fmt::format("{} {}[{}][{}];", vector_, array, count, steps_));
}

void SqueezeProduct::hold(const std::string& array, std::int64_t begin, std::int64_t count) {
    std::string inside;
    if (tiles_ % (threads_ / 32) != 0) inside = fmt::format("tile < {}", tiles_);
    if (columns_ % 8 != 0) inside = fmt::format("tile * 8 + row < {}", columns_);
    if (terms_ % block() != 0)
        inside += fmt::format("{}place < {}", inside.empty() ? "" : " && ", terms_);
    code_.open(fmt::format("KN_UNROLL for (int i = 0; i < {}; ++i)", count));
    code_.line(fmt::format("const int tile = (i + {}) * {} + warp;", begin, threads_ / 32));
    code_.line(fmt::format("const int column = {};", column_));
    code_.open(fmt::format("KN_UNROLL for (int k = 0; k < {}; ++k)", steps_));
    code_.line(fmt::format("const int place = k * {} + quad * {};", block(), lanes_));
    if (!inside.empty()) code_.line(fmt::format("{}[i][k] = {}{{}};", array, vector_));
    code_.line(fmt::format("{}{}[i][k] = kn_read((const {}*)({} + column * {} + {} + place));",
                           inside.empty() ? "" : fmt::format("if ({}) ", inside), array, vector_,
                           pointer_, elements_, start_));
    code_.close();
    code_.close();
}

void SqueezeProduct::clear_ends() {
    const std::int64_t behind = steps_ * block() - terms_;
    if (behind == 0) return;
    code_.line(
        fmt::format("for (int t = thread; t < {0}; t += {1}) rows_{2}[t / {3} * {4} + "
                    "{5} + t % {3}] = kn_cast<{6}>(0.0f);",
                    images_ * behind, threads_, name_, behind, pitch_, terms_, type_));
}

void SqueezeProduct::keep(const std::string& row, const std::string& term,
                          const std::string& value) {
    code_.line(fmt::format("rows_{}[({}) * {} + {}] = kn_cast<{}>({});", name_, row, pitch_, term,
                           type_, value));
}

std::string SqueezeProduct::type_of_sums() const {
    return fmt::format("kn_eight_columns<{}, {}>", type_, images_);
}

void SqueezeProduct::load_rows() {
    code_.line(sync_);
    code_.line(fmt::format("{}::Operand x{}[{}];", type_of_sums(), name_, steps_));
    code_.line(
        fmt::format("KN_UNROLL for (int k = 0; k < {0}; ++k) x{1}[k] = "
                    "{2}::load(rows_{1} + k * {3} + quad * {4}, {5});",
                    steps_, name_, type_of_sums(), block(), lanes_, pitch_));
}

void SqueezeProduct::multiply(const std::string& array, std::int64_t begin, std::int64_t count,
                              std::string store) {
    if (columns_ % 8 != 0) store = fmt::format("if (tile * 8 + column < {}) {}", columns_, store);
    code_.open(fmt::format("KN_UNROLL for (int i = 0; i < {}; ++i)", count));
    code_.line(fmt::format("const int tile = (i + {}) * {} + warp;", begin, threads_ / 32));
    code_.line(type_of_sums() + " product;");
    code_.line(fmt::format("KN_UNROLL for (int k = 0; k < {}; ++k) product.add({}[i][k], x{}[k]);",
                           steps_, array, name_));
    code_.open(tiles_ % (threads_ / 32) == 0 ? "" : fmt::format("if (tile < {})", tiles_));
    code_.open("product.give([&](int of, int column, float x)");
    code_.line(store);
    code_.close("});");
    code_.close();
    code_.close();
}

}  // namespace kn::cuda
