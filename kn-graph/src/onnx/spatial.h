// The attributes that convolutions and pooling share: strides, dilations, pads and auto_pad,
// resolved to numbers or Dims per spatial axis.
#pragma once

#include "onnx/node.h"

namespace kn::onnx {

enum class AutoPad { NotSet, SameUpper, SameLower, Valid };

/// One entry per spatial axis in every list.
struct Spatial {
    std::vector<Dim> kernel;
    Ints strides;
    Ints dilations;
    std::vector<Dim> before;
    std::vector<Dim> after;
    AutoPad auto_pad = AutoPad::NotSet;

    std::size_t rank() const { return kernel.size(); }
    /// Input elements that a window spans along an axis.
    Dim extent(std::size_t axis) const { return (kernel[axis] - 1) * dilations[axis] + 1; }
    /// All begins, then all ends.
    std::vector<Dim> pads() const;
};

AutoPad read_auto_pad(Node& node);
/// An attribute with one number >= `minimum` per axis; `otherwise` everywhere where it is absent.
Ints read_per_axis(Node& node, const std::string& name, std::size_t count, std::int64_t otherwise,
                   std::int64_t minimum);
/// Reads kernel_shape (which must agree with `weight_kernel` where that is given), strides,
/// dilations if `has_dilations`, pads and auto_pad, all but the pads of SAME_*, which
/// `resolve_same` sets.
Spatial read_spatial(Node& node, std::size_t rank, const std::vector<Dim>& weight_kernel,
                     bool has_dilations);
/// The pads of SAME_UPPER and SAME_LOWER: ceil(size / stride) windows.
void resolve_same(Spatial& spatial, const Shape& x);
/// The number of spatial axes of x [N, C, ...]; unsupported outside lowest..highest.
std::size_t spatial_rank(Node& node, Var x, std::size_t lowest, std::size_t highest);

/// The spatial sizes of a convolution's weight.
std::vector<Dim> kernel_of(Node& node, Var w, std::size_t rank);
std::int64_t read_groups(Node& node, const char* name = "group");
/// All attributes of a convolution of x [N, C, ...] by w.
ConvOptions read_conv(Node& node, Var x, Var w);

}  // namespace kn::onnx
