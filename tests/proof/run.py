#!/usr/bin/env python3
"""Prove the six properties with Frama-C and its provers: run.py [--mutants] [WORD]...

Reads the sources that ship, annotations and all. Prints `N of N goals proven` for each property and for all; exit code 0
only if each goal is. With --mutants a copy of the sources is then broken in one way after the other (properties.py), and
each fault has to leave a goal unproven. A WORD chooses the properties or faults whose name has it.

Where a prover is missing the line says SKIPPED; that fails when CI is set in the environment.
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from properties import FAULTS, PROPERTIES

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ("base", "nat", "store", "tests/proof")
STEPS = 300000  # then a prover gives a goal up. Its own steps, not seconds: as many on a busy machine as on an idle one.
#                  What is proven takes 182,019 of them at most
BACKSTOP_S = 300  # of processor time for a goal, were there a prover that counts no steps
PROVERS = ("-wp-prover", "cvc4,z3")  # what CVC4 cannot do it mostly says at once, Z3 only after all of its steps
SHIFT_PROVERS = ("-wp-prover", "tip,cvc4", "-wp-auto", "wp:bitshift")  # Frama-C itself makes products of shifts
PART = 5  # functions for one run of Frama-C
RUNS_PER_CORE = 2  # Frama-C sleeps between looks at what its provers do
ASSUMED = "assumed_sum"  # the one clause that is not proven of its own function: see README.md
TOOLS = ("frama-c", "why3", "z3", "cvc4")


class Broken(RuntimeError):
    """The runner cannot do its work; the message says why."""


class Result(NamedTuple):
    """What Frama-C said about some functions: how many goals they have, and the names of those that are not proven."""

    goals: int
    open: tuple

    @property
    def proven(self):
        """Number of goals that are."""
        return self.goals - len(self.open)

    @property
    def whole(self):
        """Whether every goal is proven."""
        return not self.open


def merge(results):
    """One Result of several."""
    return Result(sum(result.goals for result in results), sum((result.open for result in results), ()))


def parts(entry, functions):
    """What Frama-C is run for to prove @functions of a property: [(some of them, the provers' options)]"""
    shifting = [function for function in functions if function in entry.shifts]
    others = [function for function in functions if function not in entry.shifts]
    runs = -(-len(others) // PART)
    return [(shifting, SHIFT_PROVERS)] * bool(shifting) + [(others[first::runs], PROVERS) for first in range(runs)]


def run(folder, config, sources, functions, provers):
    """Run Frama-C for @functions of @sources below @folder. Return: a Result"""
    with tempfile.TemporaryDirectory(prefix="omertad-proof-") as session:  # for Frama-C's notes
        command = ["frama-c", "-c11", "-machdep", "gcc_x86_64",
                   "-cpp-extra-args=-I. -include tests/proof/prelude.h",
                   "-wp", "-wp-rte", "-warn-unsigned-overflow", *provers, "-wp-session", session,
                   "-wp-steps", str(STEPS), "-wp-timeout", str(BACKSTOP_S), "-wp-par", "1", "-wp-cache", "none",
                   f"-wp-prop=-{ASSUMED}", "-wp-fct", ",".join(functions), *sources]
        # Frama-C takes PWD for the folder it is in, whatever folder it is in.
        environment = {**os.environ, "WHY3CONFIG": str(config), "PWD": str(folder)}
        done = subprocess.run(command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise Broken(f"{' '.join(command)}\n{done.stdout[-4000:]}")
    return read(done.stdout, functions)


def read(log, functions):
    """The Result that Frama-C's @log tells of @functions."""
    counts = re.search(r"Proved goals:\s+(\d+) / (\d+)", log)
    if counts is None:
        raise Broken(f"Frama-C has counted no goals:\n{log[-2000:]}")
    silent = [function for function in functions if re.search(rf"Goal typed_{function}_", log) is None]
    if silent:
        raise Broken(f"no goal about {', '.join(silent)}")
    unproven = tuple(re.findall(r"\] Goal (?:typed_)?(\w+)(?! : Valid)\b", log))
    result = Result(int(counts.group(2)), unproven)
    if result.proven != int(counts.group(1)):
        raise Broken(f"{counts.group(0)}, but not proven: {', '.join(unproven)}\n{log[-2000:]}")
    return result


def prove_all(config, pool, chosen):
    """Begin to prove each of the chosen properties. Return: a function that waits, reports and says whether all is proven"""
    runs = [[pool.submit(run, ROOT, config, entry.sources, *part) for part in parts(entry, entry.functions)]
            for entry in chosen]

    def report():
        results = []
        for entry, futures in zip(chosen, runs):
            result = merge([future.result() for future in futures])
            results.append(result)
            print(f"  {'ok  ' if result.whole else 'FAIL'} {entry.name:10} {result.proven} of {result.goals} goals proven  "
                  f"{entry.promise}", flush=True)
            for goal in result.open:
                print(f"       not proven: {goal}")
        every = merge(results)
        print(f"prove: {every.proven} of {every.goals} goals proven", flush=True)
        return every.goals > 0 and every.whole

    return report


def break_in(folder, fault):
    """A copy of the sources with the fault in it."""
    for part in FOLDERS:
        shutil.copytree(ROOT / part, folder / part)
    path = folder / fault.source
    text = path.read_text(encoding="utf-8")
    if text.count(fault.old) != 1:
        raise Broken(f"{fault.name}: found {text.count(fault.old)} times in {fault.source}, not once: {fault.old!r}")
    path.write_text(text.replace(fault.old, fault.new), encoding="utf-8")


def attempt(config, entry, fault):
    """Prove what the fault has to break, with the fault in. Return: a Result"""
    with tempfile.TemporaryDirectory(prefix="omertad-proof-") as name:
        break_in(pathlib.Path(name), fault)
        return merge([run(name, config, entry.sources, *part) for part in parts(entry, fault.functions)])


def refute_all(config, pool, chosen):
    """Begin to plant each of the chosen faults. Return: a function that waits, reports and says whether each leaves a goal
    unproven"""
    entries = {entry.name: entry for entry in PROPERTIES}
    attempts = [pool.submit(attempt, config, entries[fault.breaks], fault) for fault in chosen]

    def report():
        refuted = 0
        for fault, future in zip(chosen, attempts):
            result = future.result()
            refuted += not result.whole
            print(f"  {'FAIL' if result.whole else 'ok  '} {fault.name:48} "
                  f"{'STILL PROVEN' if result.whole else 'refuted at ' + result.open[0]}", flush=True)
        print(f"prove-mutants: {refuted} of {len(chosen)} refuted", flush=True)
        return refuted > 0 and refuted == len(chosen)

    return report


def named(entries, words):
    """Those of @entries whose name has one of the words, or all where there are no words."""
    return [entry for entry in entries if not words or any(word in entry.name for word in words)]


def main():
    """Run what the command line asks for. Return: exit code"""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutants", action="store_true", help="plant faults, each of which has to be noticed")
    parser.add_argument("words", nargs="*", help="only what has one of these in its name")
    options = parser.parse_args()
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        print(f"prove: SKIPPED, {', '.join(missing)} not installed (make prove installs them on Debian)")
        return 1 if os.environ.get("CI") else 0
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="omertad-why3-") as name, \
            concurrent.futures.ThreadPoolExecutor(RUNS_PER_CORE * (os.cpu_count() or 1)) as pool:
        config = pathlib.Path(name) / "why3.conf"
        subprocess.run(["why3", "-C", config, "config", "detect"], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        faults = named(FAULTS, options.words) if options.mutants else []
        properties = named(PROPERTIES, [fault.breaks for fault in faults] if options.mutants else options.words)
        try:
            # Without the faults all is proven with the same steps: so it is the faults that are refuted.
            reports = [prove_all(config, pool, properties)] + [refute_all(config, pool, faults)] * options.mutants
            whole = all([report() for report in reports])
        finally:
            pool.shutdown(cancel_futures=True)
    print(f"prove: took {time.monotonic() - started:.0f} s")
    return 0 if whole else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Broken as broken:
        print(f"prove: {broken}", file=sys.stderr)
        sys.exit(1)
