#include "executor/laid_out.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "executor/strided.h"

namespace kn::cuda {

namespace {

Ints in_order(const Ints& values, const Ints& order) {
    Ints out;
    for (const std::int64_t axis : order) out.push_back(values[static_cast<std::size_t>(axis)]);
    return out;
}

void check_order(const Ints& order, std::size_t rank, const std::string& name) {
    std::vector<bool> seen(rank);
    KN_CHECK(order.size() == rank, name);
    for (const std::int64_t axis : order) {
        KN_CHECK(axis >= 0 && axis < static_cast<std::int64_t>(rank), name);
        KN_CHECK(!seen[static_cast<std::size_t>(axis)], name);
        seen[static_cast<std::size_t>(axis)] = true;
    }
}

}  // namespace

const Tensor& origin(const ConstantData& data) {
    if (!data.recipe || !std::holds_alternative<op::Cast>(data.recipe->operation))
        return data.tensor;
    const Tensor& before = data.recipe->inputs.at(0)->tensor;
    return before.shape() == data.tensor.shape() ? before : data.tensor;
}

LaidOut::LaidOut(const PlanConstant& constant) : to_(constant.dtype), tf32_(constant.tf32) {
    if (constant.folded && constant.folded->sums) {
        fold(constant);
        rows_ = constant.shape()[0];
        row_bytes_ = 2 * sizeof(float);
        return;
    }
    KN_CHECK(tf32_ == Tf32Part::None || to_ == DType::F32, constant.parts.at(0)->name);
    const Ints shape = constant.shape();
    Ints order = constant.order;
    if (order.empty())
        for (std::size_t i = 0; i < shape.size(); i++)
            order.push_back(static_cast<std::int64_t>(i));
    check_order(order, shape.size(), constant.parts.at(0)->name);
    shape_ = in_order(shape, order);
    strides_ = row_major_strides(shape_);
    joined_ = static_cast<std::size_t>(std::ranges::find(order, constant.axis) - order.begin());

    // Elements that are rounded to another type on the way are taken after that.
    const auto source = [&](const ConstantData& part) -> const Tensor& {
        return part.tensor.dtype() == to_ ? origin(part) : part.tensor;
    };
    from_ = source(*constant.parts[0]).dtype();
    const bool alike = std::ranges::all_of(
        constant.parts, [&](const auto& part) { return source(*part).dtype() == from_; });
    if (!alike) from_ = to_;
    std::int64_t offset = 0;
    for (const auto& data : constant.parts) {
        Part part;
        part.from = alike ? source(*data) : data->tensor.cast(to_);
        part.shape = in_order(part.from.shape(), order);
        part.strides = in_order(row_major_strides(part.from.shape()), order);
        part.offset = offset;
        if (joined_ < order.size()) offset += part.shape[joined_];
        parts_.push_back(std::move(part));
    }
    while (row_axis_ + 1 < shape_.size() && shape_[row_axis_] == 1) row_axis_++;
    rows_ = shape_.empty() ? 1 : shape_[row_axis_];
    row_bytes_ = size_of(to_) * static_cast<std::size_t>(shape_.empty() ? 1 : strides_[row_axis_]);
    if (constant.folded) fold(constant);
}

namespace {

std::vector<float> elements_of(const std::shared_ptr<const ConstantData>& data) {
    if (!data) return {};
    const Tensor tensor = origin(*data).cast(DType::F32);
    const auto elements = tensor.data<float>();
    return {elements.begin(), elements.end()};
}

}  // namespace

// A weight that a product reads has the rows that are folded into it innermost.
void LaidOut::fold(const PlanConstant& constant) {
    const FoldedRows& folded = *constant.folded;
    const std::string& name = constant.parts.at(0)->name;
    scale_ = elements_of(folded.scale);
    shift_ = elements_of(folded.shift);
    if (!folded.sums) {
        KN_CHECK(shape_.size() == 2 && shape_[0] > 1 && is_half(to_), name);
        KN_CHECK(constant.order.back() == folded.axis, name);
        KN_CHECK(scale_.empty() || static_cast<std::int64_t>(scale_.size()) == shape_[1], name);
        return;
    }
    PlanConstant weight = constant;
    weight.order = {1 - folded.axis, folded.axis};
    weight.dtype = folded.dtype;
    weight.folded->sums = false;
    scaled_ = std::make_unique<const LaidOut>(weight);
    if (shift_.empty()) return;
    weight.dtype = DType::F32;
    weight.folded.reset();
    plain_ = std::make_unique<const LaidOut>(weight);
}

void LaidOut::scale(float* elements, std::int64_t count) const {
    const auto row = static_cast<std::int64_t>(scale_.size());
    for (std::int64_t at = 0; at < count; at += row)
        for (std::int64_t i = 0; i < row; i++)
            elements[at + i] *= scale_[static_cast<std::size_t>(i)];
}

void LaidOut::write_sums(std::int64_t begin, std::int64_t end, std::byte* target) const {
    std::vector<std::byte> some;
    // Of a few of the target's rows at a time: the source may have them side by side.
    const auto sums = [&](const LaidOut& weight, const std::vector<float>& factors, std::int64_t at,
                          std::int64_t next, std::size_t place) {
        const auto count = weight.strides_[0];
        some.resize(static_cast<std::size_t>(next - at) * weight.row_bytes());
        weight.write(at, next, some.data());
        const Tensor wide =
            Tensor::wrap(weight.to_, {next - at, count}, some, std::shared_ptr<const void>())
                .cast(DType::F32);
        const float* element = wide.data<float>().data();
        for (std::int64_t row = at; row < next; row++) {
            double total = 0;
            for (std::int64_t i = 0; i < count; i++, element++)
                total += factors.empty() ? *element
                                         : double{*element} * factors[static_cast<std::size_t>(i)];
            const auto sum = static_cast<float>(total);
            std::memcpy(target + (static_cast<std::size_t>(row - begin) * 2 + place) * sizeof sum,
                        &sum, sizeof sum);
        }
    };
    std::memset(target, 0, static_cast<std::size_t>(end - begin) * row_bytes_);
    constexpr std::int64_t few = 32;
    for (std::int64_t at = begin; at < end; at += few) {
        sums(*scaled_, {}, at, std::min(end, at + few), 0);
        if (plain_) sums(*plain_, shift_, at, std::min(end, at + few), 1);
    }
}

void LaidOut::gather(std::int64_t begin, std::int64_t end, std::byte* target) const {
    const auto element = static_cast<std::int64_t>(size_of(from_));
    for (const Part& part : parts_) {
        Ints shape = part.shape;
        std::int64_t from = 0, to = 0;
        if (joined_ < shape.size()) to = part.offset * strides_[joined_];
        if (!shape.empty()) {
            const std::int64_t before = joined_ == row_axis_ ? part.offset : 0;
            const std::int64_t first = std::max(begin, before);
            const std::int64_t last = std::min(end, before + shape[row_axis_]);
            if (first >= last) continue;
            shape[row_axis_] = last - first;
            from = (first - before) * part.strides[row_axis_];
            to += (first - before - begin) * strides_[row_axis_];
        }
        copy_elements(part.from.bytes().data() + from * element, part.strides,
                      target + to * element, strides_, size_of(from_), shape);
    }
}

float tf32_part(float x, Tf32Part part) {
    const auto rounded = [](float value) {
        constexpr std::uint32_t below = 0x1fff;  // the bits that TF32 has not
        const auto bits = std::bit_cast<std::uint32_t>(value);
        const auto near = std::bit_cast<float>((bits + (below + 1) / 2) & ~below);
        return std::isfinite(near) ? near : std::bit_cast<float>(bits & ~below);
    };
    if (part == Tf32Part::None) return x;
    if (!std::isfinite(x)) return part == Tf32Part::High ? x : 0;
    return part == Tf32Part::High ? rounded(x) : rounded(x - rounded(x));
}

void LaidOut::write(std::int64_t begin, std::int64_t end, std::byte* target) const {
    if (scaled_) return write_sums(begin, end, target);
    convert(begin, end, target);
    if (tf32_ == Tf32Part::None) return;
    for (std::size_t at = 0; at < static_cast<std::size_t>(end - begin) * row_bytes_; at += 4) {
        float x = 0;
        std::memcpy(&x, target + at, 4);
        x = tf32_part(x, tf32_);
        std::memcpy(target + at, &x, 4);
    }
}

void LaidOut::convert(std::int64_t begin, std::int64_t end, std::byte* target) const {
    if (from_ == to_ && scale_.empty()) return gather(begin, end, target);
    // Few enough elements at a time that what is gathered stays in the processor's cache.
    constexpr std::int64_t enough = 1 << 14;
    const std::int64_t row = shape_.empty() ? 1 : strides_[row_axis_];
    if (row == 0) return;
    const std::int64_t step = std::max<std::int64_t>(1, enough / row);
    std::vector<std::byte> some;
    for (std::int64_t at = begin; at < end; at += step) {
        const std::int64_t next = std::min(end, at + step);
        const std::int64_t count = (next - at) * row;
        some.resize(static_cast<std::size_t>(count) * size_of(from_));
        gather(at, next, some.data());
        Tensor made = Tensor::wrap(from_, {count}, some, std::shared_ptr<const void>());
        if (!scale_.empty()) {
            made = made.cast(DType::F32);
            scale(made.mutable_data<float>().data(), count);
        }
        made = made.cast(to_);
        std::memcpy(target + static_cast<std::size_t>(at - begin) * row_bytes_, made.bytes().data(),
                    made.byte_size());
    }
}

}  // namespace kn::cuda
