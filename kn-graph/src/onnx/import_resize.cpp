// Resize and its ancestor Upsample.
#include <algorithm>
#include <cmath>

#include <fmt/core.h>

#include "onnx/import_util.h"

namespace kn::onnx {

namespace {

/// The fields of op::Resize for every axis that may change.
struct Plan {
    ResizeMode mode = ResizeMode::Nearest;
    ResizeCoordinates coordinates = ResizeCoordinates::Asymmetric;
    NearestMode nearest = NearestMode::Floor;
    double cubic_a = -0.75;
    bool exclude_outside = false;
    bool antialias = false;
    double extrapolation = 0;
    Ints axes;
    std::vector<Dim> sizes;
    std::vector<double> scales;  ///< 0: size / input size
    std::vector<double> starts;  ///< the region of interest, empty where it plays no part
    std::vector<double> ends;
};

template <class T>
T choose(Node& node, const std::string& name, const std::string& otherwise,
         std::initializer_list<std::pair<const char*, T>> choices) {
    const std::string text = node.attr_string(name, otherwise);
    const auto choice = std::find_if(choices.begin(), choices.end(),
                                     [&](const auto& pair) { return text == pair.first; });
    if (choice == choices.end()) node.broken(fmt::format("{} is '{}'", name, printable(text)));
    return choice->second;
}

struct Fraction {
    std::int64_t numerator;
    std::int64_t denominator;
};

/// The fraction of small numbers that an f32 stands for, such as 3/5 for 0.6.
std::optional<Fraction> fraction_of(double value) {
    const auto f32 = static_cast<float>(value);
    if (!(std::abs(value) < 1e6)) return {};
    for (std::int64_t denominator = 1; denominator <= 1024; ++denominator) {
        const double numerator = std::nearbyint(value * static_cast<double>(denominator));
        if (static_cast<float>(numerator / static_cast<double>(denominator)) == f32)
            return Fraction{static_cast<std::int64_t>(numerator), denominator};
    }
    return {};
}

/// The f32s of a model as what was meant, so that positions halfway between two pixels are hit
/// exactly.
std::vector<double> meant(std::vector<double> values) {
    for (double& value : values)
        if (const auto fraction = fraction_of(value))
            value = static_cast<double>(fraction->numerator) /
                    static_cast<double>(fraction->denominator);
    return values;
}

/// floor(size * scale) as ONNX computes it, in f32. Of a symbolic size only for scales that are a
/// fraction of small numbers.
Dim scaled(Node& node, const Dim& size, double scale) {
    if (scale == 1) return size;
    if (size.is_constant()) {
        const float product =
            std::floor(static_cast<float>(size.value()) * static_cast<float>(scale));
        if (!(product < 1e15f)) node.broken(fmt::format("scale {}", scale));
        return static_cast<std::int64_t>(product);
    }
    const auto fraction = fraction_of(scale);
    if (!fraction)
        node.unsupported(
            fmt::format("scale {} of the size {}, which must be fixed", scale, size.to_string()));
    return floor_div(size * fraction->numerator, fraction->denominator);
}

Var resize(Var x, const Plan& plan) {
    op::Resize op{x,
                  {},
                  {},
                  {},
                  {},
                  plan.mode,
                  plan.coordinates,
                  plan.nearest,
                  plan.cubic_a,
                  plan.exclude_outside,
                  plan.antialias,
                  plan.extrapolation};
    const bool crops = plan.coordinates == ResizeCoordinates::TfCropAndResize;
    std::vector<double> ends;
    for (std::size_t i = 0; i < plan.axes.size(); ++i) {
        const Dim size = x.shape()[static_cast<std::size_t>(plan.axes[i])];
        const bool whole = !crops || (plan.starts[i] == 0 && plan.ends[i] == 1);
        if (whole && plan.sizes[i] == size && (plan.scales[i] == 0 || plan.scales[i] == 1))
            continue;
        op.axes.push_back(plan.axes[i]);
        op.sizes.push_back(plan.sizes[i]);
        op.scales.push_back(plan.scales[i]);
        if (crops) {
            op.roi.push_back(plan.starts[i]);
            ends.push_back(plan.ends[i]);
        }
    }
    if (op.axes.empty()) return x;
    op.roi.insert(op.roi.end(), ends.begin(), ends.end());
    // Interpolated integers are truncated.
    const DType dtype = x.dtype();
    if (plan.mode != ResizeMode::Nearest && !is_float(dtype)) {
        Var wide = cast(x, size_of(dtype) > 2 ? DType::F64 : DType::F32);
        op.x = wide;
        return cast(add(wide, op), dtype);
    }
    return add(x, op);
}

void set_scales(Node& node, Plan& plan, const Shape& shape, const std::vector<double>& scales) {
    if (scales.size() != plan.axes.size())
        node.broken(fmt::format("{} scales for {} axes", scales.size(), plan.axes.size()));
    for (std::size_t i = 0; i < scales.size(); ++i) {
        if (!(scales[i] > 0) || !std::isfinite(scales[i]))
            node.broken(fmt::format("scale {}", scales[i]));
        const double part = plan.starts.empty() ? 1 : plan.ends[i] - plan.starts[i];
        plan.sizes.push_back(
            scaled(node, shape[static_cast<std::size_t>(plan.axes[i])], scales[i] * part));
    }
    plan.scales = scales;
}

/// `sizes` adjusted so that all axes have one scale, the smallest or the largest of size / input.
void keep_aspect_ratio(Node& node, Plan& plan, const Shape& shape, bool smallest) {
    const Ints sizes = node.input_ints(3);
    double scale = 0;
    for (std::size_t i = 0; i < plan.axes.size(); ++i) {
        const Dim& in = shape[static_cast<std::size_t>(plan.axes[i])];
        if (!in.is_constant())
            node.unsupported(fmt::format(
                "keep_aspect_ratio_policy of the size {}, which must be fixed", in.to_string()));
        const double ratio = static_cast<double>(sizes.at(i)) / static_cast<double>(in.value());
        scale = i == 0 ? ratio : smallest ? std::min(scale, ratio) : std::max(scale, ratio);
    }
    if (!(scale > 0) || !std::isfinite(scale)) node.broken("a size is not above 0");
    for (std::size_t i = 0; i < plan.axes.size(); ++i) {
        const auto in = static_cast<double>(shape[static_cast<std::size_t>(plan.axes[i])].value());
        plan.sizes.push_back(static_cast<std::int64_t>(std::floor(scale * in + 0.5)));
        plan.scales.push_back(scale);
    }
}

void set_sizes(Node& node, Plan& plan, const Shape& shape, const std::string& policy) {
    const Dim count = node.input(3).shape().size();
    if (count != Dim(static_cast<std::int64_t>(plan.axes.size())))
        node.broken(fmt::format("{} sizes for {} axes", count.to_string(), plan.axes.size()));
    if (policy == "not_larger" || policy == "not_smaller") {
        keep_aspect_ratio(node, plan, shape, policy == "not_larger");
        return;
    }
    if (policy != "stretch")
        node.broken(fmt::format("keep_aspect_ratio_policy is '{}'", printable(policy)));
    plan.sizes = node.input_dims(3);
    plan.scales.assign(plan.axes.size(), 0.0);
}

/// Present and not of size 0.
bool has_elements(Node& node, std::size_t i) {
    const auto input = node.optional_input(i);
    return input && !(input->shape().size() == 0);
}

std::vector<Var> import_resize(Node& node) {
    Var x = node.input(0);
    Plan plan;
    plan.mode = choose<ResizeMode>(node, "mode", "nearest",
                                   {{"nearest", ResizeMode::Nearest},
                                    {"linear", ResizeMode::Linear},
                                    {"cubic", ResizeMode::Cubic}});
    using C = ResizeCoordinates;
    plan.coordinates = choose<C>(node, "coordinate_transformation_mode", "half_pixel",
                                 {{"half_pixel", C::HalfPixel},
                                  {"half_pixel_symmetric", C::HalfPixelSymmetric},
                                  {"pytorch_half_pixel", C::PytorchHalfPixel},
                                  {"align_corners", C::AlignCorners},
                                  {"asymmetric", C::Asymmetric},
                                  {"tf_half_pixel_for_nn", C::TfHalfPixelForNn},
                                  {"tf_crop_and_resize", C::TfCropAndResize}});
    plan.nearest = choose<NearestMode>(node, "nearest_mode", "round_prefer_floor",
                                       {{"round_prefer_floor", NearestMode::RoundPreferFloor},
                                        {"round_prefer_ceil", NearestMode::RoundPreferCeil},
                                        {"floor", NearestMode::Floor},
                                        {"ceil", NearestMode::Ceil}});
    plan.cubic_a = node.attr_float("cubic_coeff_a", -0.75);
    plan.exclude_outside = node.attr_int("exclude_outside", 0) != 0;
    plan.extrapolation = node.attr_float("extrapolation_value", 0);
    std::string policy = "stretch";
    plan.axes = axes_from(x.rank(), 0);
    if (node.opset() >= 18) {
        plan.antialias = node.attr_int("antialias", 0) != 0 && plan.mode != ResizeMode::Nearest;
        policy = node.attr_string("keep_aspect_ratio_policy", policy);
        if (const auto axes = node.attr_ints("axes")) {
            plan.axes.clear();
            for (const auto axis : *axes)
                plan.axes.push_back(static_cast<std::int64_t>(normalize_axis(axis, x.rank())));
        }
    }
    const std::size_t count = plan.axes.size();
    if (plan.coordinates == C::TfCropAndResize) {
        const auto roi = meant(node.input_floats(1));
        if (roi.size() != 2 * count)
            node.broken(fmt::format("roi has {} entries, expected {}", roi.size(), 2 * count));
        const auto middle = roi.begin() + static_cast<std::ptrdiff_t>(count);
        plan.starts.assign(roi.begin(), middle);
        plan.ends.assign(middle, roi.end());
    } else {
        (void)node.optional_input(1);
    }
    const bool has_scales = has_elements(node, 2);
    const bool has_sizes = has_elements(node, 3);
    if (has_scales == has_sizes)
        node.broken(has_sizes ? "both scales and sizes are given"
                              : "neither scales nor sizes are given");
    if (has_scales)
        set_scales(node, plan, x.shape(), meant(node.input_floats(2)));
    else
        set_sizes(node, plan, x.shape(), policy);
    return {resize(x, plan)};
}

/// Upsample, and Resize before version 11: asymmetric; nearest takes the floor where it enlarges
/// and the ceiling where it shrinks.
std::vector<Var> import_upsample(Node& node) {
    Var x = node.input(0);
    Plan plan;
    plan.mode = choose<ResizeMode>(node, "mode", "nearest",
                                   {{"nearest", ResizeMode::Nearest},
                                    {"linear", ResizeMode::Linear},
                                    {"bilinear", ResizeMode::Linear},
                                    {"trilinear", ResizeMode::Linear}});
    std::vector<double> scales;
    if (node.opset() >= 9)
        scales = node.input_floats(1);
    else if (const auto attribute = node.attr_floats("scales"))
        scales = *attribute;
    plan.axes = axes_from(x.rank(), 0);
    scales = meant(scales);
    set_scales(node, plan, x.shape(), scales);
    if (plan.mode != ResizeMode::Nearest) return {resize(x, plan)};
    for (const bool shrinks : {true, false}) {
        Plan part = plan;
        part.nearest = shrinks ? NearestMode::Ceil : NearestMode::Floor;
        part.axes.clear();
        part.sizes.clear();
        part.scales.clear();
        for (std::size_t i = 0; i < scales.size(); ++i) {
            if ((scales[i] < 1) != shrinks) continue;
            part.axes.push_back(plan.axes[i]);
            part.sizes.push_back(plan.sizes[i]);
            part.scales.push_back(scales[i]);
        }
        x = resize(x, part);
    }
    return {x};
}

}  // namespace

std::vector<ImportRow> resize_rows() {
    std::vector<ImportRow> rows = {
        {"", "Upsample", 7, import_upsample},
        {"", "Resize", 10, import_upsample},
        {"", "Resize", 11, import_resize},
    };
    append(rows, grid_rows());
    return rows;
}

}  // namespace kn::onnx
