// Attention masks whose elements are known.
#include "optimizer/rules.h"

namespace kn::optimizer {

namespace {

/// A score that has this or less added weighs nothing in a float32 softmax, unless the scores of
/// one row are tens of thousands apart.
constexpr double hidden = -3e4;

/// What a constant mask does: 1 shows a position, 0 hides it, -1 neither.
int effect(const Tensor& mask, std::int64_t i) {
    const double value = mask.at(i);
    if (mask.dtype() == DType::Bool) return value != 0 ? 1 : 0;
    return value == 0 ? 1 : value <= hidden ? 0 : -1;
}

/// The mask shows position t to s exactly where `shows(s, t)`; `columns` are the mask's.
template <class Shows>
bool is_pattern(const Tensor& mask, Shows&& shows) {
    const std::int64_t rows = mask.shape()[2], columns = mask.shape()[3];
    for (std::int64_t i = 0; i < mask.size(); ++i) {
        const bool shown = shows(i / columns % rows, i % columns);
        if (effect(mask, i) != (shown ? 1 : 0)) return false;
    }
    return true;
}

}  // namespace

std::optional<Value> attention_causal(Rewriter& r, Value v) {
    auto attention = r.get<op::Attention>(v);
    if (!attention || !attention->mask) return std::nullopt;
    const auto data = r.constant(*attention->mask);
    if (!data || data->tensor.size() == 0) return std::nullopt;
    const Tensor& mask = data->tensor;
    const auto show_all = [](std::int64_t, std::int64_t) { return true; };
    const auto rows = r.shape(attention->q)[2].constant(),
               columns = r.shape(attention->k)[2].constant();
    if (is_pattern(mask, show_all)) {
        attention->mask = std::nullopt;
    } else {
        const bool full =
            rows && columns && mask.shape()[2] == *rows && mask.shape()[3] == *columns;
        if (!full || attention->causal != CausalMask::None || *rows < 2) return std::nullopt;
        const std::int64_t shift = *columns - *rows;
        const auto top_left = [](std::int64_t s, std::int64_t t) { return t <= s; };
        const auto bottom_right = [&](std::int64_t s, std::int64_t t) { return t <= s + shift; };
        if (is_pattern(mask, top_left))
            attention->causal = CausalMask::TopLeft;
        else if (shift > 0 && is_pattern(mask, bottom_right))
            attention->causal = CausalMask::BottomRight;
        else
            return std::nullopt;
        attention->mask = std::nullopt;
    }
    r.looked_at(data);
    return r.graph.add(*attention);
}

}  // namespace kn::optimizer
