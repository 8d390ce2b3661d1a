#include "lower/paired_epilogue.h"

#include <span>

#include <fmt/core.h>

#include "lower/library.h"

namespace kn::cuda {

namespace {

using Part = PairedColumns::Part;

// The digits of a number as the indices of these axes.
void set_digits(IndexMath& math, const std::string& number, std::span<const std::size_t> axes,
                const Ints& shape, Index& index) {
    Ints extents;
    for (const std::size_t axis : axes) extents.push_back(shape[axis]);
    if (extents.empty()) return;
    const Index digits = math.split(number, extents);
    for (std::size_t i = 0; i < axes.size(); ++i) index[axes[i]] = digits[i];
}

// Those of the column pairs * 2 + j: an axis of two elements, innermost, is j.
void set_columns(IndexMath& math, const std::string& pairs, std::span<const std::size_t> axes,
                 const Ints& shape, Index& index) {
    if (shape[axes.back()] != 2)
        return set_digits(math, math.add(math.mul(pairs, 2), "j"), axes, shape, index);
    index[axes.back()] = "j";
    set_digits(math, pairs, axes.first(axes.size() - 1), shape, index);
}

// What the kernel calls the product's column `at` where it computes `own`: one or the other, as the
// rule has seen to, and where texts do not say which, a bit of their numbers does.
std::string sums_at(IndexMath& math, const std::string& at, const std::string& own,
                    std::int64_t distance) {
    if (at == own) return "products[0][j]";
    if (at == math.add(own, distance) || at == math.add(own, -distance)) return "products[1][j]";
    return fmt::format("products[((({}) ^ ({})) & {}) != 0][j]", at, own, distance);
}

class Writer {
  public:
    Writer(Placement& placement, const Group& group, KernelDraft& draft)
        : placement_(placement),
          graph_(placement.graph()),
          group_(group),
          paired_(*group.paired),
          draft_(draft),
          emitter_(placement, code_, draft.operands) {}

    std::vector<PairedCopy> run(const TensorProduct& product, const std::string& factors) {
        write_finish();
        write_place(product);
        code_.line(fmt::format("kn_product({}, place, finish);", factors));
        draft_.body = code_.text();
        return std::move(copies_);
    }

  private:
    // Without branches: what parts have in common is computed and read once.
    void write_finish() {
        emitter_.set_lanes(2);
        emitter_.computes(group_.outputs);
        emitter_.set_reader("kn_read");
        const std::string type = c_type(graph_.dtype(paired_.root));
        code_.open(
            fmt::format("const auto finish = [&](const {} row, const int panel, const int "
                        "pair, const float (&products)[2][2])",
                        emitter_.math().type()));
        emitter_.push_scope();
        std::string result;
        for (const Part& part : paired_.parts) {
            const bool last = &part == &paired_.parts.back();
            const std::string own = value_of(part);
            result += last ? own : fmt::format("panel < {} ? {} : ", end_of(part), own);
        }
        code_.line(fmt::format("kn_vector<{}, 2> result;", type));
        code_.line(
            fmt::format("KN_UNROLL for (int j = 0; j < 2; ++j) result.lane[j] = kn_cast<{}>({});",
                        type, result));
        code_.line("return kn_bit_cast<unsigned>(result);");
        emitter_.pop_scope();
        code_.close("};");
    }

    static std::int64_t end_of(const Part& part) {
        return (part.first + part.count) / paired_panel;
    }

    std::string value_of(const Part& part) {
        IndexMath& math = emitter_.math();
        const Ints shape = graph_.shape(part.end).to_ints();
        const std::int64_t first = part.first / paired_panel, count = part.count / paired_panel;
        const std::string row = math.variable("row", graph_.shape(group_.anchor)[0].value());
        const std::string pair = math.variable("pair", paired_panel / 2);
        // Of panels that are none of the part's any place that there is.
        const std::string panel = math.define(
            fmt::format("panel >= {} && panel < {} ? panel - {} : 0", first, end_of(part), first),
            count);
        const std::string pairs = math.add(math.mul(panel, paired_panel / 2), pair);
        const std::string own = math.add(math.add(math.mul(pairs, 2), "j"), part.first);
        emitter_.provide(group_.anchor, [&, own](const Index& at) {
            return sums_at(math, at[1], own, paired_.distance);
        });
        Index index(shape.size(), "0");
        set_digits(math, row, part.row_axes, shape, index);
        set_columns(math, pairs, part.column_axes, shape, index);
        return emitter_.value(part.end, index);
    }

    void write_place(const TensorProduct& product) {
        code_.open("const auto place = [&](const int panel)");
        for (const Part& part : paired_.parts) {
            const TensorRef y = result_of(part);
            const std::string map =
                draft_.operands.map(draft_.operands.pointer(y, Access::Write, "y"),
                                    product.map_y(data_type(y.dtype).value(),
                                                  y.strides[part.row_axes.back()], part.count));
            const bool last = &part == &paired_.parts.back();
            code_.line(fmt::format("{}return kn_place{{&{}, panel * {} - {}}};",
                                   last ? "" : fmt::format("if (panel < {}) ", end_of(part)), map,
                                   paired_panel, part.first));
        }
        code_.close("};");
    }

    TensorRef result_of(const Part& part) {
        const TensorRef& y = placement_.stored(part.end);
        const AxisOrder order = order_of(part, y.shape);
        const Ints wanted = strides_for(y.shape, order);
        bool fits = alignment_of(placement_.plan(), y) >= 16;
        for (std::size_t axis = 0; axis < y.shape.size(); ++axis)
            fits = fits && (y.shape[axis] == 1 || y.strides[axis] == wanted[axis]);
        if (fits) return y;
        copies_.push_back({placement_.scratch(y.dtype, y.shape, "product", order), part.end});
        return copies_.back().from;
    }

    Placement& placement_;
    const Graph& graph_;
    const Group& group_;
    const PairedColumns& paired_;
    KernelDraft& draft_;
    Code code_;
    Emitter emitter_;
    std::vector<PairedCopy> copies_;
};

}  // namespace

std::vector<PairedCopy> write_paired(Placement& placement, const Group& group,
                                     const TensorProduct& product, const std::string& factors,
                                     KernelDraft& draft) {
    return Writer(placement, group, draft).run(product, factors);
}

}  // namespace kn::cuda
