#include "executor/strided_copy.h"

#include <algorithm>
#include <array>
#include <bit>

#include "codegen/emit.h"
#include "codegen/kernel_text.h"

namespace kn::cuda {

namespace {
constexpr std::size_t most_axes = 8;
constexpr std::int64_t block = 256, most_blocks = 1 << 16;
}  // namespace

std::vector<PlanKernel> copy_kernels() {
    std::vector<PlanKernel> kernels;
    for (const char* type : {"unsigned char", "unsigned short", "unsigned", "unsigned long long"})
        kernels.push_back({"kn_copy_strided",
                           kernel_prelude() + "typedef " + type + " T;\n" +
                               std::string(kernel_text("copy_strided")),
                           {}});
    return kernels;
}

void copy_strided(StreamRef stream, std::span<const std::shared_ptr<const Kernel>> kernels,
                  const DeviceTensor& target, const DeviceTensor& source) {
    const std::size_t bytes = size_of(source.dtype);
    const std::int64_t count = checked_size(source.shape);
    if (count == 0) return;
    if (target.is_dense() && source.is_dense())
        return copy_bytes_async(stream, target.address, source.address,
                                static_cast<std::size_t>(count) * bytes);
    const CopyAxes axes = merge_axes(source.shape, source.strides, target.strides);
    if (axes.shape.size() > most_axes)
        throw GraphError("a strided input or output has more than 8 axes that cannot be merged");
    std::array<std::int64_t, 2 + 3 * most_axes> scalars{};
    scalars[0] = count;
    scalars[1] = static_cast<std::int64_t>(axes.shape.size());
    std::ranges::fill_n(scalars.begin() + 2, most_axes, 1);
    std::ranges::copy(axes.shape, scalars.begin() + 2);
    std::ranges::copy(axes.from, scalars.begin() + 2 + most_axes);
    std::ranges::copy(axes.to, scalars.begin() + 2 + 2 * most_axes);
    std::array<void*, 2 + scalars.size()> arguments;
    std::array<std::size_t, arguments.size()> sizes;
    sizes.fill(8);
    void *from = source.address, *to = target.address;
    arguments[0] = &from;
    arguments[1] = &to;
    for (std::size_t i = 0; i < scalars.size(); i++) arguments[2 + i] = &scalars[i];
    LaunchConfig config;
    config.grid.x = static_cast<unsigned>(std::min((count + block - 1) / block, most_blocks));
    config.block.x = static_cast<unsigned>(block);
    const auto which = static_cast<std::size_t>(std::countr_zero(bytes));
    kernels[which]->launch_raw(stream, config, arguments, sizes);
}

}  // namespace kn::cuda
