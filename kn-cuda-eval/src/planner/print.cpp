#include <algorithm>
#include <numeric>

#include <fmt/core.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <kn/cuda_eval/plan.h>

#include "planner/placement.h"

namespace kn::cuda {

namespace {

// The order of axes in memory if the tensor is dense in it.
std::optional<AxisOrder> dense_order(const TensorRef& tensor) {
    AxisOrder order = row_major(tensor.shape.size());
    if (tensor.strides == strides_for(tensor.shape, order)) return order;
    std::ranges::stable_sort(order, [&](std::int64_t a, std::int64_t b) {
        return tensor.strides[static_cast<std::size_t>(a)] >
               tensor.strides[static_cast<std::size_t>(b)];
    });
    if (tensor.strides == strides_for(tensor.shape, order)) return order;
    return std::nullopt;
}

const char* arrow(Access access) {
    switch (access) {
        case Access::Read: return "";
        case Access::Write: return "-> ";
        case Access::ReadWrite: return "<> ";
        case Access::Scratch: return "use ";
    }
    return "";
}

std::string work_text(const Step& step) {
    if (const auto* kernel = std::get_if<KernelWork>(&step.work))
        return fmt::format("grid {}x{}x{} block {}x{}x{}", kernel->grid.x, kernel->grid.y,
                           kernel->grid.z, kernel->block.x, kernel->block.y, kernel->block.z);
    if (const auto* matmul = std::get_if<MatMulWork>(&step.work)) {
        const MatmulDesc& d = matmul->desc;
        const char* compute = d.compute == MatmulCompute::Tf32  ? "tf32"
                              : d.compute == MatmulCompute::F64 ? "f64"
                                                                : "f32";
        return fmt::format("cublasLt {}x{}x{} batch {} {}{} in {}", d.m, d.n, d.k, d.batch,
                           d.transpose_a ? "T" : "N", d.transpose_b ? "T" : "N", compute);
    }
    if (const auto* cudnn = std::get_if<CudnnWork>(&step.work))
        return cudnn->tensor_cores ? "cudnn" : "cudnn without tensor cores";
    return "clear";
}

std::string bytes_text(std::size_t bytes) {
    if (bytes < 10'000) return fmt::format("{} B", bytes);
    if (bytes < 10'000'000) return fmt::format("{:.1f} KB", static_cast<double>(bytes) / 1e3);
    return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
}

const char* kind_name(Buffer::Kind kind) {
    switch (kind) {
        case Buffer::Kind::Input: return "input";
        case Buffer::Kind::Output: return "output";
        case Buffer::Kind::Constant: return "constant";
        case Buffer::Kind::Arena: return "arena";
    }
    return "";
}

}  // namespace

std::string to_string(const TensorRef& tensor) {
    std::string out = fmt::format("b{} {}[{}]", tensor.buffer, name_of(tensor.dtype),
                                  fmt::join(tensor.shape, ", "));
    const auto order = dense_order(tensor);
    if (!order)
        out += fmt::format(" strides ({})", fmt::join(tensor.strides, ", "));
    else if (*order != row_major(tensor.shape.size()))
        out += fmt::format("{{{}}}", fmt::join(*order, ","));
    if (tensor.offset != 0) out += fmt::format(" +{}", tensor.offset);
    if (tensor.rounded_to_tf32) out += " rounded to tf32";
    return out;
}

std::string Plan::to_string() const {
    std::string out = fmt::format(
        "plan for {} ({}), precision {}: {} steps, {} kernels, arena {}, constants {}\n",
        device.name, device.arch(), name_of(options.precision), steps.size(), kernels.size(),
        bytes_text(arena_bytes), bytes_text(constant_bytes));
    if (slices > 1) out += fmt::format("the batch in {} slices\n", slices);
    double total = 0;
    for (std::size_t i = 0; i < steps.size(); i++) {
        const Step& step = steps[i];
        const double us = roofline_us(step, device);
        total += us;
        out += fmt::format("{:4} {}{}: {}, {} moved, {:.3g} MFLOP, at least {:.2f} us\n", i,
                           step.name, step.slice > 0 ? fmt::format(" of slice {}", step.slice) : "",
                           work_text(step), bytes_text(static_cast<std::size_t>(step.bytes())),
                           static_cast<double>(step.flops) / 1e6, us);
        for (const Operand& operand : step.operands)
            out += fmt::format("         {}{} {}\n", arrow(operand.access), operand.role,
                               cuda::to_string(operand.tensor));
        if (!step.reason.empty()) out += fmt::format("         why: {}\n", step.reason);
        if (!step.origins.empty()) {
            const std::size_t shown = std::min<std::size_t>(step.origins.size(), 6);
            out += "         from:";
            for (std::size_t k = 0; k < shown; k++)
                out += (k == 0 ? " " : ", ") + printable(step.origins[k]);
            out += shown < step.origins.size()
                       ? fmt::format(" and {} more\n", step.origins.size() - shown)
                       : "\n";
        }
    }
    out += fmt::format("at least {:.2f} us in all\nbuffers\n", total);
    for (std::size_t i = 0; i < buffers.size(); i++) {
        const Buffer& b = buffers[i];
        out += fmt::format("  b{} {} {} {}", i, kind_name(b.kind), printable(b.name),
                           bytes_text(b.bytes));
        if (b.kind == Buffer::Kind::Arena)
            out += fmt::format(" at {} for steps {}-{}", b.offset, b.first_step, b.last_step);
        out += "\n";
    }
    if (!decisions.empty()) out += "decisions\n";
    for (const Decision& d : decisions)
        out += fmt::format("  {} {} at {}: {}\n", d.rule, d.taken ? "taken" : "refused", d.where,
                           d.reason);
    return out;
}

std::string Plan::to_dot() const {
    const auto escaped = [](const std::string& text) {
        std::string safe;
        for (const char c : text) {
            if (c == '"' || c == '\\') safe += '\\';
            safe += c;
        }
        return safe;
    };
    std::string out = "digraph plan {\n  node [shape=box, fontname=\"sans-serif\"];\n";
    std::vector<std::string> writer(buffers.size());
    for (std::size_t i = 0; i < buffers.size(); i++)
        if (buffers[i].kind == Buffer::Kind::Input) {
            writer[i] = fmt::format("in{}", i);
            out += fmt::format("  in{} [label=\"{}\", shape=ellipse];\n", i,
                               escaped(printable(buffers[i].name)));
        }
    for (std::size_t i = 0; i < steps.size(); i++) {
        const Step& step = steps[i];
        out += fmt::format("  s{} [label=\"{} {}\\n{}\\n{:.2f} us\"];\n", i, i, escaped(step.name),
                           escaped(work_text(step)), roofline_us(step, device));
        for (const Operand& operand : step.operands) {
            const std::string& from = writer[operand.tensor.buffer];
            if (operand.access != Access::Write && operand.access != Access::Scratch &&
                !from.empty())
                out += fmt::format("  {} -> s{} [label=\"{}\"];\n", from, i,
                                   escaped(cuda::to_string(operand.tensor)));
        }
        for (const Operand& operand : step.operands)
            if (operand.access == Access::Write || operand.access == Access::ReadWrite)
                writer[operand.tensor.buffer] = fmt::format("s{}", i);
    }
    for (std::size_t i = 0; i < buffers.size(); i++)
        if (buffers[i].kind == Buffer::Kind::Output) {
            out += fmt::format("  out{} [label=\"{}\", shape=ellipse];\n", i,
                               escaped(printable(buffers[i].name)));
            if (!writer[i].empty()) out += fmt::format("  {} -> out{};\n", writer[i], i);
        }
    return out + "}\n";
}

}  // namespace kn::cuda
