#!/usr/bin/env python3
"""Times two builds of kn beside each other on every network of a folder, and compares their errors:
did a network get slower, did one lose accuracy?

    zoo_speed.py --before OLD/kn --now build/release/bin/kn --zoo tests/data/zoo [--out DIR]
    zoo_speed.py --device cpu ...      does the script work?

First every network is checked (`kn verify`) by both builds, many side by side, which fills their
caches, each its own. Then each is timed (`kn bench`) alone, once by each build. Rows that come out
slower are timed anew in turns, alone: what a build chooses by time is forgotten before, as it was
chosen beside others. A row is a network in a precision; it goes to DIR/zoo_speed.json at once, and
one that is there with both times is not run again (--again: it is). A figure that is missing says
why. Of networks that differ by their exporter or opset alone the first is measured first.

Times are microseconds: the median (of turns the median of medians), and the least run of all.
Errors are the largest difference from the recorded outputs over their peak. Needs nothing but
Python.
"""

import argparse
import concurrent.futures
import fnmatch
import json
import math
import os
import pathlib
import re
import statistics
import subprocess
import time

BUILDS = ("before", "now")
# What is in a cache whatever else the machine does. The rest was chosen by time.
LASTING = {".kernel", ".cubin", ".support", ".plan"}
# Errors below one rounding of the precision's own are noise.
ROUNDING = {"f32": 1e-6, "tf32": 5e-4, "f16": 5e-4, "bf16": 4e-3}
RUNS = 200  # before it is known what one takes
TURN_MS = 100  # of runs in one turn, once it is
SLOWER, SLOWER_US = 1.03, 2.0


class Tool:
    """One build of kn with a cache of its own."""

    def __init__(self, build, arguments):
        self.program = str(pathlib.Path(getattr(arguments, build)).resolve())
        self.device, self.limit = arguments.device, arguments.limit
        self.work = arguments.out / build
        self.cache = self.work / "cache"
        self.cache.mkdir(parents=True, exist_ok=True)

    def call(self, command, case, precision, *flags):
        """What its --json says; raises RuntimeError with its complaint."""
        report = self.work / f"{command}-{case.name}-{precision}.json"
        report.unlink(missing_ok=True)
        line = [self.program, command, str(case), "--device", self.device, "--precision", precision,
                "--json", str(report), *flags]
        environment = dict(os.environ, KN_CACHE_DIR=str(self.cache.resolve()),
                           KN_CACHE_LIMIT_MB="16384")
        try:
            done = subprocess.run(line, capture_output=True, text=True, errors="replace",
                                  timeout=self.limit, env=environment)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{command}: stopped after {self.limit:.0f} s") from None
        if not report.exists():
            complaint = (done.stderr.strip() or done.stdout.strip())[-300:]
            raise RuntimeError(f"{command}: status {done.returncode}: {complaint}")
        answer = json.loads(report.read_text())
        report.unlink()
        return answer

    def verify(self, case, precision):
        try:
            answer = self.call("verify", case, precision)[0]
        except RuntimeError as problem:
            return {"problem": str(problem)}
        if answer["status"] == "UNSUPPORTED":
            return {"problem": f"unsupported: {answer['reason'][:300]}"}
        figures = {"error": answer["max_rel_to_peak"], "seconds": answer["seconds"]}
        if answer["status"] != "PASS":
            figures["failed"] = answer["reason"][:300]
        return figures

    def bench(self, case, precision, figures):
        """One more turn, or why there is none."""
        known = figures.get("median_us")
        runs = min(max(round(1e3 * TURN_MS / known), 30), 2000) if known else RUNS
        start = time.time()
        try:
            answer = self.call("bench", case, precision, "--runs", str(runs))
        except RuntimeError as problem:
            figures["problem"] = str(problem)
            return
        figures.setdefault("turns_us", []).append(1e3 * answer["median_ms"])
        figures["least_us"] = min(figures.get("least_us", math.inf), 1e3 * answer["min_ms"])
        figures["median_us"] = statistics.median_low(figures["turns_us"])
        figures["steps"] = answer.get("steps")
        figures["call_s"] = time.time() - start

    def forget_choices(self):
        for entry in self.cache.iterdir():
            if entry.suffix not in LASTING:
                entry.unlink()


def ratio(row):
    """None where one has no time."""
    times = [row.get(build, {}).get("median_us") for build in BUILDS]
    return times[1] / times[0] if all(times) else None


def slower(row):
    by_us = row["now"]["median_us"] - row["before"]["median_us"]
    return ratio(row) > SLOWER and by_us > SLOWER_US


def less_accurate(row, precision):
    before, now = (row.get(build, {}).get("error") for build in BUILDS)
    return None not in (before, now) and now > max(1.5 * before, ROUNDING[precision])


def time_once(tools, case, precision, row):
    for build in BUILDS:
        tools[build].bench(case, precision, row[build])


def time_in_turns(tools, case, precision, row, turns):
    for build in BUILDS:
        for key in ("turns_us", "least_us"):
            row[build].pop(key)
    for turn in range(turns):
        for build in BUILDS if turn % 2 == 0 else BUILDS[::-1]:
            tools[build].bench(case, precision, row[build])


def list_rows(arguments):
    """(name, precision); what differs from an earlier one by its exporter or opset comes last."""
    names = [f.parent.name for f in sorted(arguments.zoo.glob("*/model.onnx"))]
    names = [n for n in names if any(fnmatch.fnmatch(n, p) for p in arguments.cases)]
    first = {}
    for name in names:
        first.setdefault(re.sub("-(dynamo|script)$|_opset[0-9]+$", "", name), name)
    names.sort(key=lambda name: name not in first.values())
    return [(name, precision) for name in names for precision in arguments.precisions.split(",")]


def prepare(rows, tools, arguments, until):
    """The rows that both builds have checked in time: their figures by build."""
    def check(task):
        (name, precision), build = task
        if time.time() > until:
            return {"problem": "no time left to prepare it"}
        return tools[build].verify(arguments.zoo / name, precision)

    start = time.time()
    tasks = [(row, build) for row in rows for build in BUILDS]
    with concurrent.futures.ThreadPoolExecutor(arguments.lanes) as pool:
        figures = iter(list(pool.map(check, tasks)))
    print(f"prepared in {time.time() - start:.0f} s", flush=True)
    return {row: {build: next(figures) for build in BUILDS} for row in rows}


def table(results):
    def cell(figures, key, form):
        return form.format(figures[key]) if figures.get(key) is not None else "-"

    lines = ["| network | before us (least) | now us (least) | now / before | errors before, now |",
             "|---|---|---|---|---|"]
    for name, row in sorted(results.items()):
        times = [f"{cell(row[b], 'median_us', '{:.1f}')} ({cell(row[b], 'least_us', '{:.1f}')})"
                 for b in BUILDS]
        errors = ", ".join(cell(row[b], "error", "{:.1e}") for b in BUILDS)
        by = f"{ratio(row):.3f}" if ratio(row) else "-"
        lines.append(f"| {name} | {times[0]} | {times[1]} | {by} | {errors} |")
    return lines


def summary(results, wanted):
    """Problems, what got worse, and the mean."""
    lines, reasons = [], {}
    for name, row in sorted(results.items()):
        for build in BUILDS:
            if "problem" in row[build]:
                reasons.setdefault((build, row[build]["problem"]), []).append(name)
            if "failed" in row[build]:
                lines.append(f"{name}: {build} fails: {row[build]['failed'][:160]}")
    lines += [f"not timed, {build}, {len(names)} rows: {reason}: {', '.join(names)}"
              for (build, reason), names in sorted(reasons.items())]
    timed = {name: row for name, row in results.items() if ratio(row)}
    missing = [name for name in wanted if name not in results]
    if missing:
        lines.append(f"not measured, {len(missing)} rows: {', '.join(missing)}")
    worse = [name for name, row in results.items() if less_accurate(row, name.split()[-1])]
    for name in sorted(worse):
        before, now = (results[name][build]["error"] for build in BUILDS)
        lines.append(f"LESS ACCURATE {name}: {before:.2e} -> {now:.2e}")
    late = [name for name in timed if slower(timed[name])]
    for name in sorted(late, key=lambda name: -ratio(timed[name])):
        before, now = (timed[name][build] for build in BUILDS)
        lines.append(f"SLOWER {name}: {before['median_us']:.1f} -> {now['median_us']:.1f} us "
                     f"({ratio(timed[name]):.3f}; least {before['least_us']:.1f} -> "
                     f"{now['least_us']:.1f}; steps {before['steps']} -> {now['steps']})")
    for precision in sorted({name.split()[-1] for name in timed}):
        logs = [math.log(ratio(row)) for name, row in timed.items() if name.endswith(precision)]
        lines.append(f"{precision}: {len(logs)} networks, geometric mean of now / before "
                     f"{math.exp(statistics.fmean(logs)):.3f}")
    lines.append(f"{len(timed)} rows timed, {len(late)} slower by more than 3 % and 2 us, "
                 f"{len(worse)} less accurate by more than half")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, help="kn as it was")
    parser.add_argument("--now", required=True, help="kn as it is")
    parser.add_argument("--zoo", required=True, type=pathlib.Path, help="a folder of case folders")
    parser.add_argument("--out", default="zoo_speed", type=pathlib.Path,
                        help="folder of zoo_speed.json, zoo_speed.md and the caches")
    parser.add_argument("--precisions", default="f16,f32")
    parser.add_argument("--cases", nargs="*", default=["*"], help="patterns of networks")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--lanes", type=int, default=16, help="side by side while preparing")
    parser.add_argument("--turns", type=int, default=3, help="of rows that come out slower")
    parser.add_argument("--limit", type=float, default=40, help="seconds of one call of kn")
    parser.add_argument("--seconds", type=float, default=math.inf,
                        help="for everything; half of it for preparing, a tenth for turns")
    parser.add_argument("--again", action="store_true")
    arguments = parser.parse_args()
    start = time.time()
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "zoo_speed.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    tools = {build: Tool(build, arguments) for build in BUILDS}
    wanted = list_rows(arguments)
    rows = [row for row in wanted
            if arguments.again or ratio(results.get(" ".join(row), {})) is None]

    def left(share):
        return time.time() < start + share * arguments.seconds

    def keep(name, precision, row):
        results[f"{name} {precision}"] = row
        file.write_text(json.dumps(results, indent=1))

    prepared = prepare(rows, tools, arguments, start + arguments.seconds / 2)
    late = []
    for (name, precision), row in prepared.items():
        if not left(0.9):
            break
        if not any("problem" in figures for figures in row.values()):
            time_once(tools, arguments.zoo / name, precision, row)
        keep(name, precision, row)
        if ratio(row) and slower(row):
            late.append((name, precision, row))
    print(f"timed after {time.time() - start:.0f} s", flush=True)
    for tool in tools.values():
        tool.forget_choices()
    for name, precision, row in late:
        if left(1):
            time_in_turns(tools, arguments.zoo / name, precision, row, arguments.turns)
            keep(name, precision, row)
    lines = table(results) + [""] + summary(results, [" ".join(row) for row in wanted])
    (arguments.out / "zoo_speed.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    print(f"{time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
