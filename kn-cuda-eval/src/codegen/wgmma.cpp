#include "codegen/wgmma.h"

#include <fmt/core.h>

namespace kn::cuda {

namespace {

struct Instruction {
    const char* types;
    int k;              ///< elements of 32 bytes
    const char* flags;  ///< after the signs: transposition, of half types
};

Instruction instruction_of(DataType type) {
    switch (type) {
        case DataType::F16:
            return {"f32.f16.f16", 16, ", 0, 0"};
        case DataType::BF16:
            return {"f32.bf16.bf16", 16, ", 0, 0"};
        default:
            return {"f32.tf32.tf32", 8, ""};
    }
}

}  // namespace

std::string wgmma_function(DataType type, int columns, bool from_registers) {
    const int sums = columns / 2;
    std::string places, operands;
    for (int i = 0; i < sums; i++) {
        places += fmt::format("{}%{}", i ? ", " : "", i);
        operands += fmt::format("{}\"+f\"(sums[{}])", i ? ", " : "", i);
    }
    const int rows = from_registers ? 4 : 1;
    std::string row_places, row_operands;
    for (int i = 0; i < rows; i++) row_places += fmt::format("{}%{}", i ? ", " : "", sums + i);
    if (from_registers) {
        row_places = "{" + row_places + "}";
        row_operands = "\"r\"(a[0]), \"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3])";
    } else {
        row_operands = "\"l\"(a)";
    }
    const Instruction instruction = instruction_of(type);
    std::string text = fmt::format(
        "__device__ __forceinline__ void kn_wgmma(float (&sums)[{}], {}, unsigned long long b, "
        "bool first) {{\n",
        sums, from_registers ? "const unsigned (&a)[4]" : "unsigned long long a");
    text += "    asm volatile(\n        \"{\\n.reg .pred p;\\n\"\n";
    text += fmt::format("        \"setp.ne.b32 p, %{}, 0;\\n\"\n", sums + rows + 1);
    text += fmt::format("        \"wgmma.mma_async.sync.aligned.m64n{}k{}.{} \"\n", columns,
                        instruction.k, instruction.types);
    text += "        \"{" + places + "}, " + row_places;
    text += fmt::format(", %{}, p, 1, 1{};\\n}}\\n\"\n", sums + rows, instruction.flags);
    text += "        : " + operands + "\n";
    text += "        : " + row_operands + ", \"l\"(b), \"r\"(static_cast<int>(!first)));\n}\n";
    return text;
}

}  // namespace kn::cuda
