#include "codegen/tensor_product.h"

#include <algorithm>

#include <fmt/core.h>

#include "codegen/kernel_text.h"

namespace kn::cuda {

namespace {

using Arithmetic = TensorProduct::Arithmetic;

struct Instruction {
    const char* types;
    int k;              ///< elements of 32 bytes
    const char* flags;  ///< after the signs: transposition, of half types
};

Instruction instruction_of(Arithmetic arithmetic) {
    switch (arithmetic) {
        case Arithmetic::F16:
            return {"f32.f16.f16", 16, ", 0, 0"};
        case Arithmetic::BF16:
            return {"f32.bf16.bf16", 16, ", 0, 0"};
        case Arithmetic::TF32:
        case Arithmetic::Split:
            return {"f32.tf32.tf32", 8, ""};
    }
    return {};
}

// One k step of a group of 128 threads: rows from shared memory, or from registers where they are
// split.
std::string wgmma_function(const TensorProduct& product) {
    const bool registers = product.arithmetic == Arithmetic::Split;
    const int sums = product.tile_columns / 2;
    std::string places, operands;
    for (int i = 0; i < sums; i++) {
        places += fmt::format("{}%{}", i ? ", " : "", i);
        operands += fmt::format("{}\"+f\"(sums[{}])", i ? ", " : "", i);
    }
    const int rows = registers ? 4 : 1;
    std::string row_places, row_operands;
    for (int i = 0; i < rows; i++) row_places += fmt::format("{}%{}", i ? ", " : "", sums + i);
    if (registers) {
        row_places = "{" + row_places + "}";
        row_operands = "\"r\"(a[0]), \"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3])";
    } else {
        row_operands = "\"l\"(a)";
    }
    const Instruction instruction = instruction_of(product.arithmetic);
    std::string text = fmt::format(
        "__device__ __forceinline__ void kn_wgmma(float (&sums)[{}], {}, unsigned long long b, "
        "bool first) {{\n",
        sums, registers ? "const unsigned (&a)[4]" : "unsigned long long a");
    text += "    asm volatile(\n        \"{\\n.reg .pred p;\\n\"\n";
    text += fmt::format("        \"setp.ne.b32 p, %{}, 0;\\n\"\n", sums + rows + 1);
    text += fmt::format("        \"wgmma.mma_async.sync.aligned.m64n{}k{}.{} \"\n",
                        product.tile_columns, instruction.k, instruction.types);
    text += "        \"{" + places + "}, " + row_places;
    text += fmt::format(", %{}, p, 1, 1{};\\n}}\\n\"\n", sums + rows, instruction.flags);
    text += "        : " + operands + "\n";
    text += "        : " + row_operands + ", \"l\"(b), \"r\"(static_cast<int>(!first)));\n}\n";
    return text;
}

std::string constant(const char* name, std::int64_t value) {
    const bool wide = value > 0x7fffffff || value < -0x7fffffff;
    return fmt::format("constexpr {} {} = {};\n", wide ? "long long" : "int", name, value);
}

std::string window_constants(const ProductWindows& windows) {
    std::string text = fmt::format("#define KN_CHANNELS {}\n", windows.channels);
    text += constant("kn_window_height_in", windows.height);
    text += constant("kn_window_width_in", windows.width);
    text += constant("kn_window_rows", windows.rows);
    text += constant("kn_window_columns", windows.columns);
    text += constant("kn_window_width", windows.kernel_width);
    text += constant("kn_window_stride_y", windows.stride_y);
    text += constant("kn_window_stride_x", windows.stride_x);
    text += constant("kn_window_pad_y", windows.pad_y);
    text += constant("kn_window_pad_x", windows.pad_x);
    text += constant("kn_window_dilation_y", windows.dilation_y);
    text += constant("kn_window_dilation_x", windows.dilation_x);
    text += fmt::format("constexpr long long kn_window_image = {};\n", windows.image_stride);
    text += constant("kn_window_line", windows.line_stride);
    text += constant("kn_window_pixel", windows.pixel_stride);
    return text;
}

}  // namespace

std::int64_t TensorProduct::element_bytes() const {
    return arithmetic == Arithmetic::F16 || arithmetic == Arithmetic::BF16 ? 2 : 4;
}

std::size_t TensorProduct::shared_bytes() const {
    const int low_parts = arithmetic == Arithmetic::Split ? 2 * tile_columns * 128 : 0;
    const int slabs = stages * (tile_rows + tile_columns) * 128 + low_parts;
    const int tile = tile_rows * pitch() * 4;
    return static_cast<std::size_t>(std::max(slabs, tile)) + 1024;  // and room to align
}

Dim3 TensorProduct::grid() const {
    return {static_cast<unsigned>((m + tile_rows - 1) / tile_rows),
            static_cast<unsigned>((n + tile_columns - 1) / tile_columns), 1};
}

std::optional<std::string> TensorProduct::why_not() const {
    const std::int64_t chunk = 16 / element_bytes();
    if (m < 1 || n < 1 || k < 1) return "there is nothing to multiply";
    if (column_stride % chunk != 0) return "rows of the weights are not aligned to 16 bytes";
    if (!windows) {
        if (k % chunk != 0 || row_stride % chunk != 0)
            return "rows of x are not aligned to 16 bytes";
        return std::nullopt;
    }
    if (windows->channels % slab() != 0)
        return fmt::format("{} channels are no multiple of {}", windows->channels, slab());
    if (windows->image_stride % chunk != 0 || windows->line_stride % chunk != 0 ||
        windows->pixel_stride % chunk != 0)
        return "pixels are not aligned to 16 bytes";
    return std::nullopt;
}

std::string tensor_product_helpers(const TensorProduct& product) {
    std::string text = "\n";
    const bool half = product.element_bytes() == 2;
    const auto define = [&](const char* name, std::int64_t value) {
        text += fmt::format("#define {} {}\n", name, value);
    };
    text += fmt::format("#define KN_ELEMENT {}\n", half ? "unsigned short" : "float");
    define("KN_SPLIT", product.arithmetic == Arithmetic::Split ? 1 : 0);
    define("KN_BM", product.tile_rows);
    define("KN_BN", product.tile_columns);
    define("KN_STAGES", product.stages);
    define("KN_M", product.m);
    define("KN_N", product.n);
    define("KN_K", product.k);
    define("KN_PITCH", product.pitch());
    define("KN_WINDOWS", product.windows ? 1 : 0);
    if (product.windows)
        text += window_constants(*product.windows);
    else
        text += fmt::format("constexpr long long kn_row_stride = {};\n", product.row_stride);
    text += fmt::format("constexpr long long kn_column_stride = {};\n", product.column_stride);
    return text + wgmma_function(product) + std::string(kernel_text("tensor_product"));
}

}  // namespace kn::cuda
