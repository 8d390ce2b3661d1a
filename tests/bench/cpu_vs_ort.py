"""Times kn on the CPU beside ONNX Runtime, in one run with the same threads, and prints the ratios.

Usage: cpu_vs_ort.py [--threads N] [--runs N] [--work DIR] [KN]

Needs the pip packages onnx, numpy, onnxruntime. ResNet-50 with batch 1 is light_resnet50.onnx of the package onnx;
BERT-base 1x128 and a network with 500 MB of external data are written to DIR. The two take turns, and the best
median of each counts.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
import onnxruntime

import models

TURNS = 3
ROOT = pathlib.Path(__file__).resolve().parents[2]


def time_ort(path, threads, runs):
    """Median milliseconds of one run."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    feed = {}
    for value in session.get_inputs():
        feed[value.name] = (random.standard_normal(value.shape).astype(np.float32)
                            if value.type == "tensor(float)"
                            else random.integers(0, 2, value.shape).astype(np.int64))
    times = []
    for _ in range(3 + runs):
        start = time.perf_counter()
        session.run(None, feed)
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times[3:])


def bench_kn(kn, path, threads, runs):
    """What `kn bench --json` writes, and the most memory of the process in bytes."""
    with tempfile.TemporaryDirectory() as scratch:
        report = pathlib.Path(scratch) / "bench.json"
        command = [kn, "bench", str(path), "--threads", str(threads), "--runs", str(runs),
                   "--json", str(report)]
        peak = peak_rss(command)
        return json.loads(report.read_text()), peak


def peak_rss(command):
    """Runs a command and gives its largest resident size in bytes."""
    code = ("import resource, subprocess, sys;"
            "status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode;"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss);"
            "sys.exit(status)")
    done = subprocess.run([sys.executable, "-c", code, *command], stdout=subprocess.PIPE, check=True)
    return int(done.stdout) * 1024


def compare(name, kn, path, threads, runs):
    ort, own = [], []
    for _ in range(TURNS):
        ort.append(time_ort(path, threads, runs))
        own.append(bench_kn(kn, path, threads, runs)[0]["median_ms"])
    print(f"{name}: kn {min(own):.2f} ms, ONNX Runtime {min(ort):.2f} ms, "
          f"ratio {min(own) / min(ort):.2f}", flush=True)


def loading(kn, path, threads):
    size = sum(file.stat().st_size for file in path.parent.iterdir())
    start = time.perf_counter()
    for file in path.parent.iterdir():
        file.read_bytes()
    read = time.perf_counter() - start
    report, peak = bench_kn(kn, path, threads, 1)
    print(f"loading {size / 1e6:.0f} MB: kn {report['load_ms'] / 1e3:.2f} s, first answer after "
          f"{report['setup_ms'] / 1e3:.2f} s, reading the file alone {read:.2f} s; "
          f"{peak / size:.2f} times the file in memory", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build" / "bench")
    parser.add_argument("kn", nargs="?", default=str(ROOT / "build/release/bin/kn"))
    args = parser.parse_args()

    bert, wide = args.work / "bert" / "model.onnx", args.work / "wide" / "model.onnx"
    for path, write in ((bert, models.write_bert_base), (wide, models.write_wide_mlp)):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path)
    resnet = pathlib.Path(onnx.__file__).parent / "backend/test/data/light/light_resnet50.onnx"

    compare("ResNet-50 batch 1", args.kn, resnet, args.threads, args.runs)
    compare("BERT-base 1x128", args.kn, bert, args.threads, args.runs)
    loading(args.kn, wide, args.threads)


if __name__ == "__main__":
    main()
