#!/usr/bin/env python3
"""verify.py KN FOLDER [--precision P] [--device cuda] [--jobs N] [--json FILE] [--peak X]: `kn verify` over the cases of a folder, held against
what the CPU passes.

Cases run in several processes. A process that dies or loses its device marks the case it was at as CRASH, and the rest goes on in a new one. The
run fails if a case that passes on the CPU in f32 FAILs or CRASHes, or is UNSUPPORTED for another reason than control flow and sizes that the data
decide. A FAIL that the CPU has too in that precision (its halves and its TF32 are the same lowered graph) is the precision's, and only listed. --peak:
in addition, the largest difference over the peak that a passing case may have.
"""
import argparse
import concurrent.futures
import json
import pathlib
import re
import subprocess
import sys

ALLOWED = ("control flow runs on the CPU only", "its result decides sizes", "a constant operand would do")
LOST = ("context is gone", "context died", "illegal memory access", "device lost", "unspecified launch failure", "misaligned address")


def run_chunk(kn, flags, cases, timeout):
    """Verdicts by name; goes on behind a case that takes the process along."""
    verdicts = {}
    while cases:
        command = [kn, "verify", *flags, *map(str, cases)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout)
            output, status, complaint = done.stdout, done.returncode, done.stderr.strip()[-300:]
        except subprocess.TimeoutExpired as late:
            output = (late.stdout or b"").decode(errors="replace") if isinstance(late.stdout, bytes) else late.stdout or ""
            status, complaint = 124, f"still running after {timeout} s"
        if status in (2, 3):
            sys.exit(f"{' '.join(command[:6])}...: status {status}: {complaint}")
        lost = False
        for line in output.splitlines():
            match = re.match(r"(PASS|FAIL|UNSUPPORTED) (\S+) (.*)", line)
            if match and not lost:
                verdicts[match[2]] = (match[1], match[3])
                lost = any(text in match[3] for text in LOST)
                if lost:
                    verdicts[match[2]] = ("CRASH", match[3])
        left = [case for case in cases if case.name not in verdicts]
        if left and len(left) == len(cases) or (left and not lost):
            verdicts[left[0].name] = ("CRASH", f"status {status}: {complaint}")
            left = left[1:]
        cases = left
    return verdicts


def verify(kn, flags, cases, jobs, timeout):
    chunks = [cases[i::4 * jobs] for i in range(4 * jobs)]
    verdicts = {}
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for part in pool.map(lambda chunk: run_chunk(kn, flags, chunk, timeout), chunks):
            verdicts.update(part)
    return verdicts


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kn")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--precision", default="f32")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--timeout", type=float, default=240, help="seconds of one process")
    parser.add_argument("--peak", type=float)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--cases", default="*", help="a pattern")
    args = parser.parse_args()

    cases = sorted(f.parent for f in args.folder.glob(args.cases + "/model.onnx"))
    on_cpu = verify(args.kn, ["--threads", "1"], cases, args.jobs, args.timeout)
    must = [case for case in cases if on_cpu[case.name][0] == "PASS"]
    lossy = set()
    if args.precision != "f32":  # what the precision itself costs, by the CPU's run of the same lowered graph
        half = verify(args.kn, ["--threads", "1", "--precision", args.precision], must, args.jobs, args.timeout)
        lossy = {name for name, (status, _) in half.items() if status == "FAIL"}
    got = verify(args.kn, ["--device", args.device, "--precision", args.precision], must, args.jobs, args.timeout)
    if args.json:
        args.json.write_text(json.dumps({name: {"status": s, "text": t} for name, (s, t) in sorted(got.items())}, indent=1))

    # The bound is for networks of float32: others round by themselves.
    index = args.folder / "index.json"
    tolerances = {name: case.get("tolerance", {}) for name, case in json.loads(index.read_text()).items()} if index.exists() else {}
    exact = {name for name in got if tolerances.get(name, {}).get("atol_of_peak", 0) <= (args.peak or 0)}
    bad, reasons = [], {}
    for name, (status, text) in sorted(got.items()):
        if status == "FAIL" and name in lossy:
            print(f"fails in {args.precision} on the CPU too: {name}: {text[:160]}")
        elif status in ("FAIL", "CRASH"):
            bad.append(f"{status} {name} {text[:300]}")
        elif status == "UNSUPPORTED":
            for reason in re.split(r";\s*", text):
                reason = re.sub(r"%\d+ ", "", reason).strip()
                if reason and not reason.startswith("no GPU plan"):
                    reason = re.sub(r"\(from [^)]*\)", "", reason)
                    reasons.setdefault(reason, []).append(name)
        elif args.peak is not None and name in exact:
            peak = float(re.search(r"max_rel_to_peak (\S+)", text)[1])
            if peak > args.peak:
                bad.append(f"ABOVE {args.peak} {name} {text}")
    unexpected = 0
    for reason, names in sorted(reasons.items(), key=lambda item: -len(item[1])):
        allowed = any(text in reason for text in ALLOWED)
        unexpected += 0 if allowed else len(set(names))
        print(f"unsupported{'' if allowed else ' (NOT ALLOWED)'}, {len(set(names))} cases: {reason[:200]}: {', '.join(sorted(set(names))[:4])}")
    print(*bad, sep="\n")
    count = {s: sum(v[0] == s for v in got.values()) for s in ("PASS", "FAIL", "CRASH", "UNSUPPORTED")}
    print(f"{args.folder.name} {args.precision}: {len(cases)} cases, {len(must)} pass on the CPU; of these on {args.device} "
          f"{count['PASS']} passed, {count['FAIL']} failed, {count['CRASH']} crashed, {count['UNSUPPORTED']} unsupported "
          f"({unexpected} for no allowed reason), {len([b for b in bad if b.startswith('ABOVE')])} above the peak bound")
    sys.exit(1 if bad or unexpected else 0)


if __name__ == "__main__":
    main()
