#include "codegen/wgmma.h"

#include <fmt/core.h>

namespace kn::cuda {

namespace {

const char* name_of_type(DataType type) {
    return type == DataType::F16 ? "f16" : type == DataType::BF16 ? "bf16" : "tf32";
}

/// "%0, %1" or the like.
std::string listed(int first, int count, const char* format) {
    std::string text;
    for (int i = 0; i < count; i++)
        text += (i ? ", " : "") + fmt::format(fmt::runtime(format), first + i);
    return text;
}

}  // namespace

std::string wgmma_function(const Wgmma& w) {
    const bool half = w.type != DataType::F32;
    const char* const type = name_of_type(w.type);
    const int sums = w.columns / 2;
    const int b = sums + (w.rows_in_registers ? 4 : 1);  // the operand's number
    const std::string head =
        fmt::format("KN_DEVICE void {}(float (&sums)[{}], {}, unsigned long long b{}) {{\n", w.name,
                    sums, w.rows_in_registers ? "const unsigned (&a)[4]" : "unsigned long long a",
                    w.adds ? "" : ", bool first");

    std::string text = "#ifdef KN_SHIM_WGMMA\n" + head;
    text += fmt::format("    KN_SHIM_WGMMA({}, {}, {}, sums, a, b, {});\n", type, w.columns,
                        w.columns_dense ? "true" : "false", w.adds ? "false" : "first");
    text += "}\n#else\n" + head + "    asm volatile(\n        \"{\\n\"\n";
    if (!w.adds)
        text += fmt::format("        \".reg .pred p;\\nsetp.ne.b32 p, %{}, 0;\\n\"\n", b + 1);
    text += fmt::format("        \"wgmma.mma_async.sync.aligned.m64n{0}k{1}.f32.{2}.{2} \"\n",
                        w.columns, half ? 16 : 8, type);
    text += "        \"{" + listed(0, sums, "%{}") + "}, ";
    text += w.rows_in_registers ? "{" + listed(sums, 4, "%{}") + "}" : listed(sums, 1, "%{}");
    text += fmt::format(", %{}, {}, 1, 1", b, w.adds ? "1" : "p");
    // Of half types, whether the operands in memory are transposed.
    if (half && !w.rows_in_registers) text += ", 0";
    if (half) text += w.columns_dense ? ", 1" : ", 0";
    text += ";\\n}\\n\"\n        : " + listed(0, sums, "\"+f\"(sums[{}])") + "\n        : ";
    text += w.rows_in_registers ? listed(0, 4, "\"r\"(a[{}])") : "\"l\"(a)";
    text += ", \"l\"(b)";
    if (!w.adds) text += ", \"r\"(static_cast<int>(!first))";
    return text + ");\n}\n#endif\n";
}

}  // namespace kn::cuda
