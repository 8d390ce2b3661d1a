#!/usr/bin/env python3
"""Times kn on a GPU beside PyTorch's torch.compile(mode="reduce-overhead") and eager in a CUDA graph: the same network with the
same weights, on one machine, in one run.

    peers.py --kn build/release/bin/kn [--out DIR] [--rows PATTERN ...] [--only kn,tuned,compile,eager] [--again] [--limit SECONDS]
    peers.py --ahead 12 --kn ...   first exports and compiles in 12 processes side by side: quicker where machine time is short
    peers.py --cpu --kn ...        every row at a tiny size on the CPU, without torch.compile: does the script work?

Needs torch, onnx, numpy. Rows are networks by batch and precision (--list). Each runs in a process of its own with a time limit; what is
measured goes to DIR/peers.json at once, and a row that is there already is not run again (--again: it is). A figure that is missing says why.
Times are medians of 50 runs queued one after the other, between events on the GPU, inputs and outputs on the device. Errors are the largest
difference from the same network in f64, over its largest output. `tuned` is kn with --tune full: what whole runs are faster by is kept.
"""

import argparse
import concurrent.futures
import fnmatch
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROWS = [
    ("tower", 256, "f16", 0.65), ("resnet50", 128, "f16", 0.50), ("bert", 8, "f16", 0.38), ("unet", 2, "f16", 0.60),
    ("llama", 1, "f16", 0.65), ("resnet50", 1, "f16", 0.50), ("resnet50", 8, "f16", 0.50), ("resnet50", 128, "tf32", 0.58),
    ("tower", 16, "f16", 0.50), ("tower", 1024, "f16", 0.70), ("bert", 8, "f32", 0.65), ("resnet50", 128, "f32", 0.65),
    ("bert", 8, "tf32", None), ("tower", 16, "f32", None), ("tower", 256, "f32", None), ("tower", 256, "tf32", None),
    ("tower", 1024, "f32", None), ("tower", 1024, "tf32", None), ("tower", 16, "tf32", None), ("resnet50", 1, "f32", None),
    ("resnet50", 1, "tf32", None), ("resnet50", 8, "f32", None), ("resnet50", 8, "tf32", None),
]
NAMES = [f"{network}-{batch}-{precision}" for network, batch, precision, _ in ROWS]
RUNS = 50


class Row:
    """One network, batch and precision; runs in the child process and writes its figures as they come."""

    def __init__(self, name, arguments):
        import torch
        import torch_models
        self.torch = torch
        self.name, self.arguments, self.figures = name, arguments, {}
        network, batch, self.precision = name.split("-")
        self.device = "cpu" if arguments.cpu else "cuda"
        self.work = pathlib.Path(arguments.work) / name
        self.work.mkdir(parents=True, exist_ok=True)
        full, full_inputs, tiny, tiny_inputs = torch_models.NETWORKS[network]
        torch.manual_seed(0)
        tf32 = self.precision == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True
        self.dtype = torch.float16 if self.precision == "f16" else torch.float32
        with torch.device(self.device):
            model = (tiny if arguments.cpu else full)()
            self.randomize_norms(model)
            inputs = (tiny_inputs if arguments.cpu else full_inputs)(min(int(batch), 3) if arguments.cpu else int(batch))
        self.model = model.to(self.dtype).eval()
        self.inputs = [x.to(self.dtype) if x.is_floating_point() else x for x in inputs]

    def randomize_norms(self, model):
        """Batch norms with statistics of their own, so that folding them is real."""
        for module in model.modules():
            if isinstance(module, self.torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)

    def write(self, **figures):
        self.figures.update(figures)
        (self.work / "figures.json").write_text(json.dumps(self.figures))

    def outputs(self, y):
        return [t.detach() for t in (y if isinstance(y, (tuple, list)) else [y])]

    def error(self, got, reference):
        return max(float((g.double() - r).abs().max() / r.abs().max()) for g, r in zip(got, reference))

    def reference(self):
        import copy
        model = copy.deepcopy(self.model).double()
        inputs = [x.double() if x.is_floating_point() else x for x in self.inputs]
        with self.torch.no_grad():
            return self.outputs(model(*inputs))

    def time(self, call):
        torch = self.torch
        if self.device == "cpu":
            times = []
            for _ in range(5):
                start = time.perf_counter()
                call()
                times.append((time.perf_counter() - start) * 1e3)
            return statistics.median(times)
        for _ in range(5):
            call()
        torch.cuda.synchronize()
        events = [torch.cuda.Event(enable_timing=True) for _ in range(RUNS + 1)]
        events[0].record()
        for event in events[1:]:
            call()
            event.record()
        torch.cuda.synchronize()
        return statistics.median(a.elapsed_time(b) for a, b in zip(events, events[1:]))

    def for_torch(self):
        """Convolutions are fastest with the channels last."""
        torch = self.torch
        model = self.model.to(memory_format=torch.channels_last)
        inputs = [x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in self.inputs]
        return model, inputs

    def eager(self, reference):
        import torch_graph
        model, inputs = self.for_torch()
        if self.device == "cpu":
            self.write(eager_ms=self.time(lambda: model(*inputs)), eager_error=self.error(self.outputs(model(*inputs)), reference))
            return
        graph, result = torch_graph.capture(lambda: model(*inputs))
        eager_ms = self.time(graph.replay)
        self.write(eager_ms=eager_ms, eager_error=self.error(self.outputs(result), reference))

    def compile(self, reference):
        torch = self.torch
        model, inputs = self.for_torch()
        start = time.perf_counter()
        compiled = torch.compile(model, mode="reduce-overhead")
        for _ in range(3):
            result = [t.clone() for t in self.outputs(compiled(*inputs))]
        torch.cuda.synchronize()
        setup = time.perf_counter() - start
        setup_name = "compile_warm_setup_s" if self.arguments.ahead else "compile_setup_s"
        self.write(**{setup_name: setup}, compile_ms=self.time(lambda: compiled(*inputs)), compile_error=self.error(result, reference))

    def export(self):
        import warnings
        import numpy as np
        path = self.work / "model.onnx"
        names = [f"x{i}" for i in range(len(self.inputs))]
        files = [f"{name}={self.work / name}.npy" for name in names]
        done = self.work / "exported"
        if done.exists():
            return path, files
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.torch.onnx.export(self.model, tuple(self.inputs), str(path), input_names=names, opset_version=17, dynamo=False)
        for name, x in zip(names, self.inputs):
            np.save(self.work / f"{name}.npy", x.cpu().numpy())
        self.write(export_s=time.perf_counter() - start)
        done.touch()
        return path, files

    def prepare(self):
        """What needs no machine of its own: files."""
        with self.torch.no_grad():
            self.export()
            if self.device == "cuda":
                model, inputs = self.for_torch()
                self.torch.compile(model, mode="reduce-overhead")(*inputs)

    def kn(self, reference):
        import numpy as np
        path, inputs = self.export()
        precision = "f32" if self.arguments.cpu and self.precision == "tf32" else self.precision
        common = ["--device", self.device, "--precision", precision]
        out = self.work / "out"
        command = [self.arguments.kn, "run", str(path), *common, "--output", str(out)]
        self.call(command + [part for i in inputs for part in ("--input", i)])
        got = [self.torch.from_numpy(np.load(out / f"output_{i}.npy")).to(self.device) for i in range(len(reference))]
        self.write(kn_error=self.error(got, reference))
        report = self.work / "bench.json"
        self.call([self.arguments.kn, "bench", str(path), *common, "--runs", str(RUNS), "--json", str(report)])
        bench = json.loads(report.read_text())
        self.write(kn_ms=bench["median_ms"], kn_warm_setup_s=bench["setup_ms"] / 1e3, kn_bench=bench)

    def tuned(self, reference):
        path, _ = self.export()
        precision = "f32" if self.arguments.cpu and self.precision == "tf32" else self.precision
        report = self.work / "tuned.json"
        start = time.perf_counter()
        self.call([self.arguments.kn, "bench", str(path), "--device", self.device, "--precision", precision, "--tune", "full",
                   "--runs", str(RUNS), "--json", str(report)])
        self.write(tuned_ms=json.loads(report.read_text())["median_ms"], tuned_setup_s=time.perf_counter() - start)

    def call(self, command):
        environment = dict(os.environ, XDG_CACHE_HOME=str(self.work / "cache"))
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command[:2])}: status {done.returncode}: {done.stderr.strip()[-300:]}")
        self.figures.setdefault("kn_first_answer_s", time.perf_counter() - start)

    def run(self):
        torch = self.torch
        wanted = self.arguments.only.split(",")
        with torch.no_grad():
            reference = self.reference()
            if self.device == "cuda":
                torch.cuda.empty_cache()
                self.write(device=torch.cuda.get_device_name(0), torch=torch.__version__, cuda=torch.version.cuda,
                           cudnn=torch.backends.cudnn.version())
            for peer in ("kn", "tuned", "eager", "compile"):
                if peer not in wanted or (peer == "compile" and self.device == "cpu"):
                    continue
                try:
                    getattr(self, peer)(reference)
                except Exception as error:  # one peer's failure is a figure too
                    self.write(**{peer + "_problem": f"{type(error).__name__}: {error}"[:400]})


def start_child(name, arguments, work, prepare=False):
    """The row's process, which imports what it needs and waits for finish_child."""
    command = [sys.executable, __file__, "--child", name, "--work", work, "--kn", arguments.kn, "--only", arguments.only,
               "--ahead", str(arguments.ahead)]
    environment = dict(os.environ, TORCHINDUCTOR_CACHE_DIR=str(pathlib.Path(work) / "inductor"))
    if prepare:
        environment["TORCHINDUCTOR_COMPILE_THREADS"] = "2"
    return subprocess.Popen(command + ["--cpu"] * arguments.cpu + ["--prepare"] * prepare, start_new_session=True, stdin=subprocess.PIPE,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)


def finish_child(child, name, arguments, work):
    """Lets it go on; the row's figures, whatever became of it."""
    problem = None
    try:
        _, stderr = child.communicate("go\n", timeout=arguments.limit)
        if child.returncode != 0:
            problem = f"status {child.returncode}: {stderr.strip()[-300:]}"
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        problem = f"stopped after {arguments.limit} s"
    file = pathlib.Path(work) / name / "figures.json"
    figures = json.loads(file.read_text()) if file.exists() else {}
    if problem:
        figures["problem"] = problem
    return figures


def prepare_all(names, arguments, work):
    def prepare(name):
        return finish_child(start_child(name, arguments, work, prepare=True), name, arguments, work)

    start = time.time()
    with concurrent.futures.ThreadPoolExecutor(arguments.ahead) as pool:
        for name, figures in zip(names, pool.map(prepare, names)):
            print(f"{name}: {figures.get('problem', 'prepared')}", flush=True)
    print(f"prepared in {time.time() - start:.0f} s", flush=True)


def table(results):
    def number(figures, key, form="{:.3f}"):
        return form.format(figures[key]) if key in figures else "-"

    lines = ["| network | kn ms | tuned | torch.compile | eager + graph | kn/compile | to reach | kn/eager | errors kn, compile, eager | "
             "first answer s: cold, warm, compile |", "|---|---|---|---|---|---|---|---|---|---|"]
    for name, (_, _, _, goal) in zip(NAMES, ROWS):
        if name not in results:
            lines.append(f"| {name} | not measured | | | | | {goal or ''} | | | |")
            continue
        f = results[name]
        ratio = f"{f['kn_ms'] / f['compile_ms']:.2f}" if "kn_ms" in f and "compile_ms" in f else "-"
        eager = f"{f['kn_ms'] / f['eager_ms']:.2f}" if "kn_ms" in f and "eager_ms" in f else "-"
        errors = ", ".join(number(f, p + "_error", "{:.1e}") for p in ("kn", "compile", "eager"))
        setups = ", ".join(number(f, k, "{:.2f}") for k in ("kn_first_answer_s", "kn_warm_setup_s", "compile_setup_s"))
        setups += f" ({f['compile_warm_setup_s']:.2f} warm)" if "compile_warm_setup_s" in f else ""
        lines.append(f"| {name} | {number(f, 'kn_ms')} | {number(f, 'tuned_ms')} | {number(f, 'compile_ms')} | {number(f, 'eager_ms')} | {ratio} | {goal or ''} | {eager} | "
                     f"{errors} | {setups} |")
    for name in NAMES:
        for key in ("problem", "kn_problem", "tuned_problem", "compile_problem", "eager_problem"):
            if key in results.get(name, {}):
                lines.append(f"{name}: not measured, {key.replace('_', ' ')}: {results[name][key]}")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kn", default=str(pathlib.Path(__file__).resolve().parents[2] / "build/release/bin/kn"))
    parser.add_argument("--out", default="peers", help="folder of peers.json and peers.md")
    parser.add_argument("--rows", nargs="*", default=["*"], help="patterns such as resnet50-*-f16")
    parser.add_argument("--only", default="kn,compile,eager")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--limit", type=float, default=300)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--work", help="folder for exported networks (default: a temporary one)")
    parser.add_argument("--ahead", type=int, default=0, help="processes that export and compile before anything is timed")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--prepare", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        import torch, torch_models  # noqa: what takes seconds, before it is this row's turn
        if not arguments.cpu:
            import torch._dynamo, torch._inductor.compile_fx  # noqa
        if not sys.stdin.readline():  # whoever started this is gone
            return
        row = Row(arguments.child, arguments)
        row.prepare() if arguments.prepare else row.run()
        return
    names = [n for n in NAMES if any(fnmatch.fnmatch(n, p) for p in arguments.rows)]
    if arguments.list:
        print("\n".join(names))
        return
    out = pathlib.Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    file = out / "peers.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    peers = [p for p in arguments.only.split(",") if not (arguments.cpu and p == "compile")]
    if not arguments.again:
        names = [n for n in names if not all(p + "_ms" in results.get(n, {}) for p in peers)]
    with tempfile.TemporaryDirectory() as scratch:
        work = arguments.work or scratch
        if arguments.ahead:
            prepare_all(names, arguments, work)
        waiting = [start_child(name, arguments, work) for name in names[:1]]
        for i, name in enumerate(names):
            start = time.time()
            child = waiting.pop()
            waiting += [start_child(following, arguments, work) for following in names[i + 1:i + 2]]
            figures = finish_child(child, name, arguments, work)
            results[name] = {k: v for k, v in results.get(name, {}).items() if not k.endswith("problem")} | figures
            results[name]["date"] = time.strftime("%Y-%m-%d %H:%M")
            file.write_text(json.dumps(results, indent=1))
            (out / "peers.md").write_text(table(results) + "\n")
            print(f"{name}: {time.time() - start:.0f} s", flush=True)
    print(table(results))
    if any("problem" in key for name in names for key in results.get(name, {})):
        sys.exit(1)


if __name__ == "__main__":
    main()
