#include <algorithm>

#include "planner/roofline.h"

namespace kn::cuda {

double memory_rate(const DeviceProperties& device) {
    const int large_part = device.compute() >= 80 && device.compute() != 86 ? 6144 : 384;
    const int bits = device.memory_bus_bits > 0 ? device.memory_bus_bits : large_part;
    return 2e3 * device.memory_clock_khz * bits / 8;
}

namespace {

// FLOPs an SM and clock: by FMA, and by tensor cores of the data-centre parts.
double flops_per_clock(const Step& step) {
    if (const auto* matmul = std::get_if<MatMulWork>(&step.work)) {
        if (matmul->desc.a_type == DataType::F16 || matmul->desc.a_type == DataType::BF16)
            return 4096;
        if (matmul->desc.compute == MatmulCompute::Tf32) return 2048;
        return 256;
    }
    if (const auto* cudnn = std::get_if<CudnnWork>(&step.work)) {
        const DType dtype = step.operands.empty() ? DType::F32 : step.operands[0].tensor.dtype;
        if (is_half(dtype)) return 4096;
        return cudnn->tensor_cores ? 2048 : 256;
    }
    const auto* kernel = std::get_if<KernelWork>(&step.work);
    return kernel ? kernel->flops_per_clock : 256;
}

}  // namespace

double roofline_us(const Step& step, const DeviceProperties& device) {
    const double memory = static_cast<double>(step.bytes()) / memory_rate(device);
    const double rate = flops_per_clock(step) * device.sm_count * 1e3 * device.clock_khz;
    const double arithmetic = static_cast<double>(step.flops) / rate;
    return 1e6 * std::max(memory, arithmetic);
}

}  // namespace kn::cuda
