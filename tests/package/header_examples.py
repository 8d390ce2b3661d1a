#!/usr/bin/env python3
"""The examples at the top of public headers as one source file, which has to compile.

    header_examples.py OUT.cpp INCLUDE_DIR...

An example is what a header's first comment says four spaces further in. NAMES declares what it does
not make itself.
"""
import pathlib
import sys

GRAPH = "extern kn::Graph graph; extern kn::Tensor x;"
NAMES = {
    "kn/kn.h": "extern std::span<const float> pixels;",
    "kn/graph/backend.h": """struct MyBackend : kn::Backend {
    bool takes_symbols() const override;
    std::vector<kn::Device> devices() const override;
    std::string why_unavailable() const override;
    std::unique_ptr<kn::Executable> prepare(std::shared_ptr<const kn::Graph>,
                                            const kn::BackendOptions&) override;
};""",
    "kn/graph/builder.h": "extern kn::Tensor w, b;",
    "kn/graph/cpu.h": GRAPH,
    "kn/graph/decompose.h": GRAPH,
    "kn/graph/graph.h": "extern kn::Tensor weights;",
    "kn/graph/network.h": "extern std::span<const float> pixels;",
    "kn/graph/ops.h": "extern kn::Graph graph; extern kn::Value x;",
    "kn/graph/optimizer.h": GRAPH,
    "kn/graph/precision.h": GRAPH,
    "kn/graph/random.h": GRAPH,
    "kn/graph/tensor.h": "extern std::span<const float> pixels;",
    "kn/testing/compare.h": "extern kn::Tensor got, expected;",
    "kn/cuda_eval/device_tensor.h": "extern kn::cuda::Executor executor; extern void* pixels;"
    " extern kn::cuda::StreamRef stream; extern kn::cuda::DeviceTensor result;",
    "kn/cuda_eval/executor.h": GRAPH + " extern std::shared_ptr<const kn::cuda::Plan> plan;"
    " extern kn::cuda::StreamRef stream; extern std::span<const void* const> device_inputs;"
    " extern std::span<void* const> device_outputs;",
    "kn/cuda_eval/phase.h": "extern kn::cuda::Plan plan;",
    "kn/cuda_eval/plan.h": GRAPH + " extern kn::cuda::DeviceProperties device;",
}


def example(header: pathlib.Path) -> list[str]:
    lines = []
    for line in header.read_text().splitlines():
        if not line.startswith("//"):
            break
        if line.startswith("//     ") and "#include" not in line:
            lines.append(line[7:])
    return lines


def main() -> None:
    out, folders = pathlib.Path(sys.argv[1]), sys.argv[2:]
    text = "#include <cstdio>\n#include <iostream>\n#include <span>\n\n#include <kn/kn.h>\n"
    bodies = ""
    for folder in map(pathlib.Path, folders):
        for header in sorted(folder.rglob("*.h")):
            name = header.relative_to(folder).as_posix()
            lines = example(header)
            if not lines or "/detail/" in name or "/cuda_sys/" in name:
                continue
            text += f"#include <{name}>\n"
            bodies += f"\nnamespace example_{bodies.count('namespace')} {{  // {name}\n"
            bodies += NAMES.get(name, "") + "\nvoid example() {\n"
            bodies += f'#line 1 "example of {name}"\n' + "\n".join(lines) + "\n}\n}\n"
    out.write_text(text + bodies)


main()
