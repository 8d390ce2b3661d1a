"""Gives every hostile file to the kn tool and holds its answer against the index.

Usage: check.py [--no-memory-limit] KN FOLDER

Each file is checked, and run where the check finds nothing. Wanted: an exit status of 0 to 2 within 20 s and
2 GB; where the index says error, a refusal by one of the two; with every refusal, text on stderr that blames
the file, without control characters. --no-memory-limit is for sanitized builds, whose shadow memory counts.
"""

import json
import pathlib
import resource
import subprocess
import sys
import tempfile

TIME_S = 20
MEMORY = 2 << 30


def limit_memory():
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))


def attempt(command, limited):
    """(exit status or None for too long, stderr)"""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, timeout=TIME_S, check=False,
                              preexec_fn=limit_memory if limited else None)
    except subprocess.TimeoutExpired:
        return None, b""
    return done.returncode, done.stderr


def complaint(status, stderr):
    """What is wrong with an answer, or None."""
    if status is None:
        return f"took more than {TIME_S} s"
    if status not in (0, 1, 2):
        return f"ended with status {status}: {stderr[-300:]!r}"
    if b"Sanitizer" in stderr or b"runtime error:" in stderr:
        return f"sanitizer report: {stderr[:600]!r}"
    if b"internal error" in stderr:
        return f"kn blames itself: {stderr[:300]!r}"
    if status != 0 and not stderr.strip():
        return "refused without a word"
    if any(byte < 32 and byte != 10 or byte == 127 for byte in stderr):
        return f"control characters on stderr: {stderr[:300]!r}"
    return None


def problem_of(kn, folder, case, limited):
    model = folder / "model.onnx"
    status, stderr = attempt([kn, "check", str(model)], limited)
    wrong = complaint(status, stderr)
    if wrong:
        return f"check: {wrong}"
    if status != 0:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        target = folder if case.get("inputs") else model
        status, stderr = attempt([kn, "run", str(target), "--output", scratch], limited)
    if status is None and case["accept"] == "ok-or-error":
        return None
    wrong = complaint(status, stderr)
    if wrong:
        return f"run: {wrong}"
    if status == 0 and case["accept"] == "error":
        return "accepted"
    return None


def main():
    arguments = [a for a in sys.argv[1:] if a != "--no-memory-limit"]
    limited = "--no-memory-limit" not in sys.argv
    kn, folder = arguments[0], pathlib.Path(arguments[1])
    index = json.loads((folder / "index.json").read_text())
    bad = 0
    for name, case in index.items():
        problem = problem_of(kn, folder / name, case, limited)
        if problem:
            bad += 1
            print(f"{name} ({case['what']}): {problem}")
    print(f"{len(index) - bad} of {len(index)} hostile files are answered well")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
