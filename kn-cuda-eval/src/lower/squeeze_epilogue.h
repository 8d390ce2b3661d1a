// Squeeze and excite behind a convolution, in its kernel: tiles are whole images with all their
// channels, which stay in registers as sums of the tensor cores.
#pragma once

#include <optional>

#include <kn/cuda_sys/device_properties.h>

#include "codegen/emit.h"
#include "codegen/tensor_product.h"
#include "lower/squeeze.h"

namespace kn::cuda {

/// The product with tiles of whole images, and what its epilogue wants of shared memory; none if
/// images do not fill tiles that fit the device.
std::optional<TensorProduct> squeezing_product(const TensorProduct& product, const Squeeze& problem,
                                               std::size_t heads, const DeviceProperties& device);

/// Clocks of 1650 MHz that it takes, by a model.
double clocks_of_squeezing(const TensorProduct& product, const DeviceProperties& device);

struct SqueezedConvTiles {
    int rows = 128;  ///< of a block: 64, 128
    int blocks = 1;  ///< that have all channels of their images: 1, 2, 4
    bool operator==(const SqueezedConvTiles&) const = default;
};

/// For measurements and tests: tiles that this thread's plans take whatever the model says.
std::optional<SqueezedConvTiles>& forced_squeezed_conv();

/// The kernel's body, around kn_product({factors and weights}, maps, excite): for a group
/// with the roles of squeeze_of and "x", "w". `before`: what the copy engine puts into the place of
/// the result.
void write_squeezing(Placement& placement, const Group& group, const TensorProduct& product,
                     const std::optional<Value>& before, const std::string& factors,
                     const std::string& maps, KernelDraft& draft);

}  // namespace kn::cuda
