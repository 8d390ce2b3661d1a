#include "lower/product_epilogue.h"

#include <algorithm>
#include <cctype>

#include <fmt/core.h>

#include "lower/library.h"
#include "lower/lower.h"

namespace kn::cuda {

ProductSizes product_sizes(const Graph& graph, Value product) {
    const Ints y = graph.shape(product).to_ints();
    const auto operands = inputs_of(graph[product].operation);
    const Ints w = graph.shape(operands[1]).to_ints();
    if (graph.get_if<op::MatMul>(product)) return {y[0], y[1], w[0]};
    const std::int64_t columns = y[1];
    return {checked_size(y) / std::max<std::int64_t>(columns, 1), columns,
            checked_size(w) / std::max<std::int64_t>(columns, 1)};
}

ProductWindows windows_of(const Graph& graph, const op::Conv& conv, Value result) {
    const Ints x = graph.shape(conv.x).to_ints(), w = graph.shape(conv.w).to_ints();
    const Ints y = graph.shape(result).to_ints();
    ProductWindows windows;
    windows.images = x[0];
    windows.channels = x[1];
    windows.height = x[2];
    windows.width = x[3];
    windows.rows = y[2];
    windows.columns = y[3];
    windows.kernel_height = w[2];
    windows.kernel_width = w[3];
    windows.stride_y = conv.strides[0];
    windows.stride_x = conv.strides[1];
    windows.pad_y = conv.pads_before[0].value();
    windows.pad_x = conv.pads_before[1].value();
    windows.dilation_y = conv.dilations[0];
    windows.dilation_x = conv.dilations[1];
    return windows;
}

bool is_dense_image(const TensorRef& x) {
    return x.strides[2] == x.shape[3] * x.strides[3] &&
           (x.shape[0] == 1 || x.strides[0] == x.shape[2] * x.strides[2]);
}

std::optional<std::int64_t> row_stride_of(const Plan& plan, const TensorRef& t) {
    const Ints& s = t.strides;
    const bool image = t.shape.size() == 4;
    if (t.shape.size() != 2 && !image) return std::nullopt;
    if (s[1] != 1 || (image && !is_dense_image(t)) || alignment_of(plan, t) < 16)
        return std::nullopt;
    const std::int64_t stride = image ? s[3] : s[0];
    if (stride < t.shape[1] || stride * size_of(t.dtype) % 16 != 0) return std::nullopt;
    return stride;
}

ProductEpilogue::ProductEpilogue(Placement& placement, const Group& group)
    : placement_(placement),
      group_(group),
      graph_(placement.graph()),
      conv_(graph_.get_if<op::Conv>(group.anchor) != nullptr),
      sizes_(product_sizes(graph_, group.anchor)),
      end_(group.outputs.at(0)),
      columns_(graph_.shape(end_)[1].value()),
      halves_(columns_ == sizes_.n ? 1 : 2) {
    const int wanted = static_cast<int>(16 / std::max<std::size_t>(size_of(graph_.dtype(end_)), 2));
    lanes_ = sizes_.n % wanted == 0 ? wanted : 1;
}

void ProductEpilogue::write_direct(KernelDraft& draft, const std::string& factors, Code code,
                                   const std::optional<Value>& also) {
    write_store(draft, factors, std::move(code), "", also);
}

void ProductEpilogue::write_direct_with(KernelDraft& draft, const std::string& factors,
                                        const TensorRef& parts, const std::optional<Value>& also) {
    write_store(draft, factors, {}, draft.operands.pointer(parts, Access::Write, "statistics"),
                also);
}

void ProductEpilogue::write_store(KernelDraft& draft, const std::string& factors, Code code,
                                  const std::string& parts, const std::optional<Value>& also) {
    Emitter emitter(placement_, code, draft.operands);
    emitter.set_lanes(lanes_);
    emitter.computes(group_.outputs);
    emitter.set_reader("kn_read");
    const std::string place = fmt::format("const {} row, const int column", emitter.math().type());
    code.open(fmt::format("const auto store = [&]({}, {}float (&products)[{}])", place,
                          parts.empty() ? "const " : "", lanes_));
    if (lanes_ == 1) code.line("const float product = products[0];");
    emitter.provide(group_.anchor, [&](const Index&) -> std::string {
        return lanes_ == 1 ? "product" : "products[j]";
    });
    if (also) emitter.provide(*also, [](const Index&) { return std::string("0.0f"); });
    const Index index = index_of(emitter, lanes_);
    const std::string value = emitter.value(end_, index);
    emitter.store(end_, index, value);
    if (!parts.empty())
        code.line(fmt::format("KN_UNROLL for (int j = 0; j < {}; ++j) products[j] = kn_widen({});",
                              lanes_, as_stored(placement_.stored(end_), value)));
    code.close("};");
    code.open(fmt::format("const auto touch = [&]({})", place));
    for (const Emitter::Load& load : emitter.loads())
        if (const auto offset = place_in_rows(emitter, load))
            code.line(fmt::format("kn_fetch({} + ({}));", load.pointer, *offset));
    code.close("};");
    code.line(
        fmt::format("kn_product({}, touch, store{});", factors, parts.empty() ? "" : ", " + parts));
    draft.body = code.text();
}

// Of what is read once for each element of the product, and where its place is a matter of row
// and column alone.
std::optional<std::string> ProductEpilogue::place_in_rows(Emitter& emitter,
                                                          const Emitter::Load& load) const {
    if (lanes_ == 1 || load.elements < sizes_.m * sizes_.n) return std::nullopt;
    const auto part = emitter.math().part(load.offset, "j");
    if (!part || part->factor != 1) return std::nullopt;
    for (std::size_t at = 0; at < part->rest.size();) {
        std::size_t end = at;
        while (
            end < part->rest.size() &&
            (std::isalnum(static_cast<unsigned char>(part->rest[end])) || part->rest[end] == '_'))
            ++end;
        const std::string word = part->rest.substr(at, end - at);
        if (!word.empty() && !std::isdigit(static_cast<unsigned char>(word[0])) && word != "row" &&
            word != "column")
            return std::nullopt;
        at = std::max(end, at + 1);
    }
    return part->rest;
}

// The element of the result at (row, column).
Index ProductEpilogue::index_of(Emitter& emitter, int lanes) const {
    IndexMath& math = emitter.math();
    const std::string row = math.variable("row", sizes_.m);
    std::string column = math.variable("column", columns_ / lanes);
    if (lanes > 1) column = math.add(math.mul(column, lanes), "j");
    if (!conv_) return {row, column};
    const Ints y = graph_.shape(end_).to_ints();
    const Index position = math.split(row, {y[0], y[2], y[3]});
    return {position[0], column, position[1], position[2]};
}

bool ProductEpilogue::is_like_result(const TensorRef& t) const {
    return t.shape == graph_.shape(end_).to_ints() && t.dtype == graph_.dtype(end_) &&
           row_stride_of(placement_.plan(), t);
}

bool ProductEpilogue::can_be_staged() const {
    const DType dtype = graph_.dtype(end_);
    return (is_half(dtype) || dtype == DType::F32) && placement_.is_stored(end_) &&
           is_like_result(placement_.stored(end_));
}

std::optional<Value> ProductEpilogue::before() const {
    std::vector<Value> tail = group_.swallowed;
    tail.push_back(end_);
    std::erase(tail, group_.anchor);
    for (const Value& value : tail)
        for (const Value& operand : inputs_of(graph_[value].operation)) {
            if (operand == group_.anchor || std::ranges::count(tail, operand) > 0) continue;
            const auto view = placement_.view(operand);
            if (view && is_like_result(*view)) return operand;
        }
    return std::nullopt;
}

// What the kernel calls the product's element `at`, where it makes the element `result` of y: the
// same column, or that of the other half.
std::string ProductEpilogue::sums_of(Emitter& emitter, const Index& result, const Index& at) const {
    const bool second = at != result;
    if (second) {
        Index other = result;
        other[1] = emitter.math().add(result[1], columns_);
        KN_CHECK(halves_ == 2 && at == other, "an epilogue reads another element of the product");
    }
    return second ? "products[1][j]" : "products[0][j]";
}

TensorRef ProductEpilogue::staged_result() {
    if (can_be_staged()) return placement_.stored(end_);
    return placement_.scratch(graph_.dtype(end_), graph_.shape(end_).to_ints(), "product",
                              conv_ ? AxisOrder{0, 2, 3, 1} : AxisOrder{0, 1});
}

void ProductEpilogue::write_finish(Code& code, KernelOperands& operands, const std::string& name,
                                   const std::optional<Value>& before,
                                   const std::optional<Value>& also) {
    Emitter emitter(placement_, code, operands);
    emitter.set_lanes(2);
    emitter.computes(group_.outputs);
    emitter.set_reader("kn_read");
    code.open(
        fmt::format("const auto {} = [&](const {} row, const int column, "
                    "const float (&products)[{}][2], const kn_pair pair)",
                    name, emitter.math().type(), halves_));
    const Index index = index_of(emitter, 2);
    emitter.provide(group_.anchor, [&](const Index& at) { return sums_of(emitter, index, at); });
    if (also) emitter.provide(*also, [](const Index&) { return std::string("0.0f"); });
    if (before) {
        const std::string type = c_type(graph_.dtype(*before));
        code.line(fmt::format(
            "const kn_vector<{0}, 2> before = kn_bit_cast<kn_vector<{0}, 2>>(pair);", type));
        emitter.provide(*before, [&](const Index& at) -> std::string {
            return at == index ? "kn_widen(before.lane[j])" : emitter.compute_inline(*before, at);
        });
    }
    const std::string value = emitter.value(end_, index);
    const std::string type = c_type(graph_.dtype(end_));
    code.line(fmt::format("kn_vector<{}, 2> result;", type));
    TensorRef y;  // as it stays in a kernel for another product
    y.dtype = graph_.dtype(end_);
    y.rounded_to_tf32 = y.dtype == DType::F32;
    if (placement_.is_stored(end_)) y = placement_.stored(end_);
    code.line(fmt::format("KN_UNROLL for (int j = 0; j < 2; ++j) result.lane[j] = {};",
                          as_stored(y, value)));
    code.line("return kn_bit_cast<kn_pair>(result);");
    code.close("};");
}

std::string ProductEpilogue::staged_maps(KernelDraft& draft, const TensorProduct& product,
                                         const TensorRef& y) {
    const auto map = [&](const TensorRef& tensor, Access access) {
        const std::string pointer =
            draft.operands.pointer(tensor, access, access == Access::Write ? "y" : "x");
        return draft.operands.map(pointer,
                                  product.map_y(data_type(tensor.dtype).value(),
                                                row_stride_of(placement_.plan(), tensor).value()));
    };
    const std::string map_y = map(y, Access::Write);
    const std::optional<Value> before = this->before();
    return map_y + ", " + (before ? map(*placement_.view(*before), Access::Read) : map_y);
}

void ProductEpilogue::write_staged(KernelDraft& draft, const std::string& factors,
                                   const TensorProduct& product, const TensorRef& y,
                                   const std::optional<Value>& also) {
    const std::string maps = staged_maps(draft, product, y);
    Code code;
    write_finish(code, draft.operands, "finish", before(), also);
    code.line(fmt::format("kn_product({}, {}, finish);", factors, maps));
    draft.body = code.text();
}

}  // namespace kn::cuda
