"""Runs `kn verify` over a folder of cases and holds the result against what must pass.

Usage: check.py [--must LIST] [--update] [--json FILE] KN FOLDER [ARGUMENT OF KN VERIFY...]

A case that FAILs, and a case that must pass and does not, fail the run. What must pass is named in LIST, one
case a line; without it, it is what FOLDER/index.json calls float32 and not optional. --update adds to LIST
what passes now (and takes nothing away).
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

TIMEOUT_S = 1500


def verify(kn, folder, arguments):
    """The list that `kn verify --json` writes; ends the program where it writes none."""
    with tempfile.TemporaryDirectory() as scratch:
        report = pathlib.Path(scratch) / "report.json"
        command = [kn, "verify", *arguments, "--json", str(report), str(folder)]
        print("+", *command, flush=True)
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              errors="replace", timeout=TIMEOUT_S, check=False)
        if done.returncode not in (0, 1) or not report.exists():
            print(done.stdout[-2000:], done.stderr[-4000:], sep="\n")
            sys.exit(f"kn verify ended with status {done.returncode}")
        return json.loads(report.read_text()), done


def required(args):
    if args.must:
        return set(args.must.read_text().split())
    index = json.loads((args.folder / "index.json").read_text())
    return {name for name, case in index.items()
            if case["kind"] == "float32" and not case.get("optional")}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--must", type=pathlib.Path)
    parser.add_argument("--update", action="store_true")
    parser.add_argument("kn")
    parser.add_argument("folder", type=pathlib.Path)
    args, arguments = parser.parse_known_args()

    results, done = verify(args.kn, args.folder, arguments)
    by_name = {result["name"]: result for result in results}
    passed = {name for name, result in by_name.items() if result["status"] == "PASS"}
    failed = {name for name, result in by_name.items() if result["status"] == "FAIL"}
    if args.update:
        names = passed | (set(args.must.read_text().split()) if args.must.exists() else set())
        args.must.write_text("".join(f"{name}\n" for name in sorted(names)))
    must = required(args)

    for name in sorted(failed | (must - passed)):
        result = by_name.get(name, {"status": "MISSING", "reason": "no such case"})
        print(result["status"], name, result.get("reason", ""))
    print(f"{len(passed)} passed, {len(failed)} failed, "
          f"{len(by_name) - len(passed) - len(failed)} skipped; {len(must & passed)} of the "
          f"{len(must)} that must pass do")
    if args.must and passed - must:
        print(f"{len(passed - must)} more pass than the list holds: --update adds them")
    if (done.returncode == 1) != bool(failed):
        print(f"kn verify ended with status {done.returncode} and reports {len(failed)} failures")
        sys.exit(1)
    sys.exit(1 if failed or must - passed else 0)


if __name__ == "__main__":
    main()
