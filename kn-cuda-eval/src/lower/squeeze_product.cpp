#include "lower/squeeze_product.h"

#include <fmt/core.h>

#include "planner/ceil_div.h"

namespace kn::cuda {

SqueezeProduct::SqueezeProduct(Code& code, const Squeeze& problem, const SqueezeTiles& tiles,
                               char name, std::int64_t terms, std::int64_t columns)
    : code_(code),
      name_(1, name),
      type_(c_type(problem.dtype)),
      threads_(tiles.threads),
      images_(tiles.images),
      lanes_(problem.lanes()),
      terms_(terms),
      columns_(columns),
      tiles_(ceil_div(columns, 8)),
      rounds_(ceil_div(tiles_, threads_ / 32)),
      steps_(ceil_div(terms, block())),
      pitch_((steps_ + 1) * block()) {  // rows begin in different banks
    vector_ = fmt::format("kn_vector<{}, {}>", type_, lanes_);
}

void SqueezeProduct::hold(const std::string& pointer, const std::string& column,
                          std::int64_t elements, const std::string& first) {
    std::string inside;
    if (tiles_ % (threads_ / 32) != 0) inside = fmt::format("tile < {}", tiles_);
    if (columns_ % 8 != 0) inside = fmt::format("tile * 8 + row < {}", columns_);
    if (terms_ % block() != 0)
        inside += fmt::format("{}place < {}", inside.empty() ? "" : " && ", terms_);
    code_.line(fmt::format("{} w{}[{}][{}];", vector_, name_, rounds_, steps_));
    code_.open(fmt::format("KN_UNROLL for (int i = 0; i < {}; ++i)", rounds_));
    code_.line(fmt::format("const int tile = i * {} + warp;", threads_ / 32));
    code_.line(fmt::format("const int column = {};", column));
    code_.open(fmt::format("KN_UNROLL for (int k = 0; k < {}; ++k)", steps_));
    code_.line(fmt::format("const int place = k * {} + quad * {};", block(), lanes_));
    if (!inside.empty()) code_.line(fmt::format("w{}[i][k] = {}();", name_, vector_));
    code_.line(fmt::format("{}w{}[i][k] = kn_read((const {}*)({} + column * {} + {} + place));",
                           inside.empty() ? "" : fmt::format("if ({}) ", inside), name_, vector_,
                           pointer, elements, first));
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

void SqueezeProduct::multiply(std::string store) {
    if (columns_ % 8 != 0) store = fmt::format("if (tile * 8 + column < {}) {}", columns_, store);
    code_.line("kn_sync();");
    code_.open(fmt::format("KN_UNROLL for (int i = 0; i < {}; ++i)", rounds_));
    code_.line(fmt::format("const int tile = i * {} + warp;", threads_ / 32));
    code_.line(fmt::format("kn_eight_columns<{}, {}> product;", type_, images_));
    code_.line(
        fmt::format("KN_UNROLL for (int k = 0; k < {0}; ++k) product.add(w{1}[i][k], "
                    "rows_{1} + k * {2} + quad * {3}, {4});",
                    steps_, name_, block(), lanes_, pitch_));
    code_.open(tiles_ % (threads_ / 32) == 0 ? "" : fmt::format("if (tile < {})", tiles_));
    code_.open("product.give([&](int of, int column, float x)");
    code_.line(store);
    code_.close("});");
    code_.close();
    code_.close();
}

}  // namespace kn::cuda
