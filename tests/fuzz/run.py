#!/usr/bin/env python3
"""Run the fuzz targets, two at a time: run.py --build DIR --seconds N [--keep] [TARGET]...

Each begins with its corpus in tests/fuzz/corpus and goes on in a temporary folder; --keep takes into the corpus what reaches
code that no input there reaches. Prints executions, and edges reached, for each. Exit code 0 only if no target found anything.
What one has found is left in build/fuzz/ for a look, and belongs into the corpus with the fix.
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests/fuzz/corpus"
FOUND = ROOT / "build/fuzz"
INPUT_BYTES_MAX = 4096
GRACE_S = 300  # beyond the time to fuzz: reading the corpus under sanitizers on a busy machine


def run(build, target, seconds, keep):
    """Fuzz one target. Return: (whether it found nothing, the line to print)"""
    binary = build / "fuzz" / target
    environment = {"ASAN_OPTIONS": "detect_leaks=1", **os.environ}
    with tempfile.TemporaryDirectory(prefix=f"omertad-fuzz-{target}-") as work:
        common = [f"-artifact_prefix={FOUND}/{target}-", f"-max_len={INPUT_BYTES_MAX}"]
        done = subprocess.run([binary, f"-max_total_time={seconds}", "-timeout=60", "-rss_limit_mb=4096",
                               "-print_final_stats=1", *common, work, CORPUS / target], cwd=ROOT, env=environment,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds + GRACE_S)
        log = done.stdout.decode(errors="replace")
        executions = re.search(r"stat::number_of_executed_units:\s+(\d+)", log)
        edges = re.findall(r"cov: (\d+)", log)
        if done.returncode != 0 or executions is None:
            return False, f"  FAIL {target:10} found something, see build/fuzz/{target}-*\n{log[-6000:]}"
        if keep:
            subprocess.run([binary, "-merge=1", *common, CORPUS / target, work], cwd=ROOT, env=environment, check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=GRACE_S)
    return True, f"  ok   {target:10} {int(executions.group(1)):10} executions {int(edges[-1] if edges else 0):6} edges"


def main():
    """Run what the command line asks for. Return: exit code"""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("targets", nargs="*")
    options = parser.parse_args()
    targets = options.targets or sorted(path.name for path in CORPUS.iterdir())
    FOUND.mkdir(parents=True, exist_ok=True)
    good = True
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        build = (ROOT / options.build).resolve()
        for clean, line in pool.map(lambda target: run(build, target, options.seconds, options.keep), targets):
            good = good and clean
            print(line, flush=True)
    print(f"fuzz: {len(targets)} targets, {'nothing found' if good else 'FOUND SOMETHING'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
