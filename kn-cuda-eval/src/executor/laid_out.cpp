#include "executor/laid_out.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include <kn/graph/convert.h>

#include "executor/filtered_weights.h"
#include "executor/strided.h"
#include "planner/constant_origin.h"

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

LaidOut::LaidOut(const PlanConstant& constant)
    : to_(constant.winograd ? DType::F32 : constant.dtype),
      filtered_(constant.winograd),
      tf32_(constant.tf32) {
    if (constant.folded && constant.folded->sums) {
        fold(constant);
        rows_ = constant.shape()[0];
        row_bytes_ = 2 * sizeof(float);
        return;
    }
    KN_CHECK(tf32_ == Tf32Part::None || to_ == DType::F32, constant.parts.at(0)->name);
    PlanConstant as_given = constant;
    as_given.winograd = false;
    const Ints shape = as_given.shape();
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
        return part.tensor.dtype() == constant.dtype ? origin(part) : part.tensor;
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
    if (!filtered_) return;
    KN_CHECK(constant.dtype == DType::F16 && shape_.size() == 4 && row_axis_ == 0,
             constant.parts.at(0)->name);
    KN_CHECK(shape_[1] == 3 && shape_[2] == 3, constant.parts.at(0)->name);
    const Ints filtered = constant.shape();
    row_bytes_ = static_cast<std::size_t>(filtered[1] * filtered[2]) * size_of(DType::F16);
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

// Rows of elements as the parts have them; `target` may be their own place.
void LaidOut::scale_rows(const std::byte* source, std::int64_t rows, std::byte* target) const {
    constexpr std::size_t most = 2048;  // of a row at a time: they stay in the first-level cache
    float some[most];
    for (std::int64_t row = 0; row < rows; row++)
        for (std::size_t at = 0; at < scale_.size(); at += most) {
            const std::size_t count = std::min(most, scale_.size() - at);
            convert_elements(from_, source, DType::F32, some, count);
            for (std::size_t i = 0; i < count; i++) some[i] *= scale_[at + i];
            convert_elements(DType::F32, some, to_, target, count);
            source += count * size_of(from_);
            target += count * size_of(to_);
        }
}

namespace {

// Of as many rows side by side, as each sum waits for the one before it.
constexpr std::size_t abreast = 8;

std::array<double, abreast> sums_of_rows(const float* rows, std::size_t count,
                                         const float* factors) {
    std::array<double, abreast> totals{};
    for (std::size_t i = 0; i < count; i++)
        for (std::size_t row = 0; row < abreast; row++) {
            const double x = rows[row * count + i];
            totals[row] += factors ? x * factors[i] : x;
        }
    return totals;
}

}  // namespace

void LaidOut::write_sums(std::int64_t begin, std::int64_t end, std::byte* target) const {
    std::vector<std::byte> some;
    std::vector<float> wide;
    // Of a few of the target's rows at a time: the source may have them side by side.
    const auto sums = [&](const LaidOut& weight, const std::vector<float>& factors, std::int64_t at,
                          std::int64_t next, std::size_t place) {
        const auto count = static_cast<std::size_t>(weight.strides_[0]);
        const auto rows = static_cast<std::size_t>(next - at);
        some.resize(rows * weight.row_bytes());
        wide.resize((rows + abreast - 1) / abreast * abreast * count);
        weight.write(at, next, some.data());
        convert_elements(weight.to_, some.data(), DType::F32, wide.data(), rows * count);
        for (std::size_t row = 0; row < rows; row += abreast) {
            const auto totals = sums_of_rows(wide.data() + row * count, count,
                                             factors.empty() ? nullptr : factors.data());
            for (std::size_t i = 0; i < std::min(abreast, rows - row); i++) {
                const auto sum = static_cast<float>(totals[i]);
                std::memcpy(
                    target +
                        ((static_cast<std::size_t>(at - begin) + row + i) * 2 + place) * sizeof sum,
                    &sum, sizeof sum);
            }
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

namespace {

// Without branches, for the loop over a weight.
template <Tf32Part part>
float part_of(float x) {
    constexpr std::uint32_t exponent = 0x7f800000;
    const auto rounded = [](float value) {
        constexpr std::uint32_t below = 0x1fff;  // the bits that TF32 has not
        const auto bits = std::bit_cast<std::uint32_t>(value);
        const std::uint32_t near = (bits + (below + 1) / 2) & ~below;
        return std::bit_cast<float>((near & exponent) != exponent ? near : bits & ~below);
    };
    const bool finite = (std::bit_cast<std::uint32_t>(x) & exponent) != exponent;
    const float high = rounded(x);
    if (part == Tf32Part::High) return finite ? high : x;
    return finite ? rounded(x - high) : 0;
}

template <Tf32Part part>
void take_part(float* elements, std::size_t count) {
    for (std::size_t i = 0; i < count; i++) elements[i] = part_of<part>(elements[i]);
}

}  // namespace

float tf32_part(float x, Tf32Part part) {
    if (part == Tf32Part::None) return x;
    return part == Tf32Part::High ? part_of<Tf32Part::High>(x) : part_of<Tf32Part::Low>(x);
}

void LaidOut::write_filtered(std::int64_t begin, std::int64_t end, std::byte* target) const {
    const auto channels = static_cast<std::size_t>(shape_[3]);
    std::vector<float> filter(9 * channels), positions(row_bytes_ / size_of(DType::F16));
    for (std::int64_t at = begin; at < end; at++, target += row_bytes_) {
        convert(at, at + 1, reinterpret_cast<std::byte*>(filter.data()));
        filter_weights(filter.data(), channels, positions.data());
        convert_elements(DType::F32, positions.data(), DType::F16, target, positions.size());
    }
}

std::size_t LaidOut::row_work() const {
    if (scaled_) return 2 * (scaled_->row_work() + (plain_ ? plain_->row_work() : 0));
    return std::max<std::size_t>(1, filtered_ ? 2 * row_bytes_ : row_bytes_);
}

void LaidOut::write(std::int64_t begin, std::int64_t end, std::byte* target) const {
    if (filtered_) return write_filtered(begin, end, target);
    if (scaled_) return write_sums(begin, end, target);
    convert(begin, end, target);
    auto* const elements = reinterpret_cast<float*>(target);
    const std::size_t count = static_cast<std::size_t>(end - begin) * row_bytes_ / sizeof(float);
    if (tf32_ == Tf32Part::High) take_part<Tf32Part::High>(elements, count);
    if (tf32_ == Tf32Part::Low) take_part<Tf32Part::Low>(elements, count);
}

void LaidOut::convert(std::int64_t begin, std::int64_t end, std::byte* target) const {
    if (from_ == to_) {
        gather(begin, end, target);
        if (!scale_.empty()) scale_rows(target, end - begin, target);
        return;
    }
    const std::int64_t row = shape_.empty() ? 1 : strides_[row_axis_];
    if (row == 0) return;
    // Few enough elements at a time that what is gathered stays in the processor's cache; but where
    // the source has rows side by side, as many as its cache lines have.
    constexpr std::int64_t enough = 1 << 14, most = 1 << 18, neighbours = 32;
    const bool side_by_side = std::ranges::any_of(
        parts_, [&](const Part& part) { return row > 1 && part.strides[row_axis_] == 1; });
    const std::int64_t wanted = side_by_side ? std::min(neighbours, most / row) : 1;
    const std::int64_t step = std::max({std::int64_t{1}, wanted, enough / row});
    std::vector<std::byte> some;
    for (std::int64_t at = begin; at < end; at += step) {
        const std::int64_t next = std::min(end, at + step);
        some.resize(static_cast<std::size_t>((next - at) * row) * size_of(from_));
        gather(at, next, some.data());
        std::byte* const to = target + static_cast<std::size_t>(at - begin) * row_bytes_;
        if (scale_.empty())
            convert_elements(from_, some.data(), to_, to,
                             static_cast<std::size_t>((next - at) * row));
        else
            scale_rows(some.data(), next - at, to);
    }
}

}  // namespace kn::cuda
