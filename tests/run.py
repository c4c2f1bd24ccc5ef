#!/usr/bin/env python3
"""Runs the tests and counts them: house rules, what is deployed, unit tests (cmocka), the API contract before others'
tools, system tests.

usage: tests/run.py [--build DIR] [--images DIR] [house] [deploy] [unit] [contract] [system]

The last lines are the counts, one line a kind and one for all. Exit code 0 only if nothing failed.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
UNIT_LIMIT_S = 300
KINDS = ("house", "deploy", "unit", "contract", "system")


def run_cmocka(binary):
    """Run one test binary. Return (passed, failed, skipped, output)."""
    try:
        done = subprocess.run([str(binary)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT,
                              timeout=UNIT_LIMIT_S)
        output, code = done.stdout.decode(errors="replace"), done.returncode
    except subprocess.TimeoutExpired as late:
        output = (late.stdout or b"").decode(errors="replace") + f"\nended after {UNIT_LIMIT_S} s"
        code = -1
    passed = len(re.findall(r"^\[       OK \]", output, re.MULTILINE))
    skipped = len(set(re.findall(r"^\[  SKIPPED \] (\w+)$", output, re.MULTILINE)))
    failed = len(set(re.findall(r"^\[  FAILED  \] (\w+)$", output, re.MULTILINE)))
    if code != 0 and failed == 0:
        failed = 1  # crashed, a sanitizer spoke, or did not start
    if passed + failed + skipped == 0:
        failed = 1  # a binary that ran no test
    return passed, failed, skipped, output


def unit_tests(build):
    """Run every unit test binary below the build folder."""
    totals = [0, 0, 0]
    binaries = sorted(path for path in (build / "tests").rglob("test_*") if path.suffix == "")
    if not binaries:
        print(f"no unit tests below {build}: run make unit-binaries")
        return [0, 1, 0]
    for binary in binaries:
        start = time.monotonic()
        passed, failed, skipped, output = run_cmocka(binary)
        totals = [total + more for total, more in zip(totals, (passed, failed, skipped))]
        name = str(binary.relative_to(build / "tests"))
        print(f"  {'FAIL' if failed else 'ok  '} {name:36} {passed:4} passed  {time.monotonic() - start:5.1f} s", flush=True)
        if failed:
            print(output)
    return totals


def counted(command, environment):
    """Run a runner whose last line is `NAME: N passed, M failed, K skipped`; show its output as it comes."""
    last = ""
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line if line.strip() else last
    found = re.match(r"\w+: (\d+) passed, (\d+) failed, (\d+) skipped", last)
    counts = [int(number) for number in found.groups()] if found else [0, 1, 0]
    if process.returncode != 0 and counts[1] == 0:
        counts[1] = 1
    return counts


def python_script(script, program):
    """Run a script of unittest."""
    done = subprocess.run([sys.executable, script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env={**os.environ, "OMERTAD": str(program)})
    ran = re.search(r"Ran (\d+) tests?", done.stdout)
    total = int(ran.group(1)) if ran else 0
    found = re.search(r"FAILED \((.*)\)", done.stdout)
    failed = sum(int(n) for n in re.findall(r"(?:failures|errors)=(\d+)", found.group(1))) if found else 0
    skipped = sum(int(n) for n in re.findall(r"skipped=(\d+)", done.stdout))
    if done.returncode != 0 and failed == 0:
        failed = 1
    if failed:
        print(done.stdout)
    return [max(total - failed - skipped, 0), failed, skipped]


def python_tests(scripts, program):
    """Run scripts of unittest, one after the other."""
    return [sum(column) for column in zip(*(python_script(script, program) for script in scripts))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "host")
    parser.add_argument("--images", type=pathlib.Path, default=ROOT / "build" / "guest")
    parser.add_argument("kinds", nargs="*")
    options = parser.parse_args()
    unknown = set(options.kinds) - set(KINDS)
    if unknown:
        parser.error(f"no such kind of test: {', '.join(sorted(unknown))} (there are {', '.join(KINDS)})")
    kinds = options.kinds or list(KINDS)
    build = (ROOT / options.build).resolve()
    images = (ROOT / options.images).resolve()

    runners = {
        "house": lambda: python_tests(["tests/house/layers.py", "tests/contract/document.py", "tests/bench/test_plot.py"], build / "omertad"),
        "deploy": lambda: python_tests(["tests/deploy/test_deploy.py", "tests/deploy/test_fleet.py", "tests/deploy/test_builders.py",
                                       "tests/deploy/test_progress.py"], build / "omertad"),
        "unit": lambda: unit_tests(build),
        "contract": lambda: python_tests(["tests/contract/tools.py"], build / "omertad"),
        "system": lambda: counted([sys.executable, "tests/system/run.py"],
                                  {"OMERTAD": str(build / "omertad"), "OMERTAD_IMAGE": str(images / "micro")}),
    }
    results = {}
    for kind in kinds:
        print(f"{kind} tests", flush=True)
        results[kind] = runners[kind]()
    print()
    for kind, (passed, failed, skipped) in results.items():
        print(f"{kind + ':':9} {passed} passed, {failed} failed, {skipped} skipped")
    passed, failed, skipped = (sum(column) for column in zip(*results.values()))
    print(f"total:    {passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    os.environ.setdefault("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0")
    sys.exit(main())
