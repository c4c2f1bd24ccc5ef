#!/usr/bin/env python3
"""Prove the six properties with Frama-C and its provers: run.py [--mutants] [WORD]...

Reads the sources that ship, annotations and all. Prints `N of N goals proven` for each property and for all; exit code 0
only if each goal is. With --mutants a copy of the sources is broken in one way after the other (properties.py) and each
fault has to leave a goal unproven. A WORD chooses the properties or faults whose name has it.

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

from properties import FAULTS, PROPERTIES

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ("base", "nat", "store", "tests/proof")
GOAL_LIMITS_S = (4, 30, 120)  # a prover that knows how takes 3 s at most on an idle machine; then it is the other one's turn.
#                               What neither has proven so is tried again, longer: the machine may be busy
FAULT_LIMITS_S = (4, 20)  # what does not hold is tried so long, by each prover
STRATEGY = "wp:bitshift"  # Frama-C itself makes products of shifts, which neither prover does
ASSUMED = "assumed_sum"  # the one clause that is not proven of its own function: see README.md
TOOLS = ("frama-c", "why3", "z3", "cvc4")


class Broken(RuntimeError):
    """The runner cannot do its work; the message says why."""


class Result:
    """What Frama-C said about some functions."""

    def __init__(self, log):
        counts = re.search(r"Proved goals:\s+(\d+) / (\d+)", log)
        if counts is None:
            raise Broken(f"Frama-C has counted no goals:\n{log[-2000:]}")
        self.proven, self.goals = int(counts.group(1)), int(counts.group(2))
        closed = r"Qed|Script|Z3 [\d.]+|CVC4 [\d.]+"
        self.open = re.findall(rf"\[(?!(?:{closed})\])[^\]]+\] Goal (?:typed_)?(\w+)", log)
        self._log = log

    def owner(self, goal, functions):
        """The function that a goal is about: the longest name that it begins with."""
        return max((function for function in functions if goal.startswith(f"{function}_")), key=len)

    def mentions(self, function):
        """Whether there was a goal about the function."""
        return re.search(rf"Goal typed_{function}_", self._log) is not None


def prove(folder, config, sources, functions, limits_s):
    """Prove @functions of @sources below @folder: quickly what can be, and the rest within the next limit. Return: a Result"""
    result = run(folder, config, sources, functions, limits_s[0])
    for limit_s in limits_s[1:]:
        left = sorted({result.owner(goal, functions) for goal in result.open})
        if not left:
            break
        again = run(folder, config, sources, left, limit_s)
        result.proven = result.goals - len(again.open)
        result.open = again.open
    return result


def run(folder, config, sources, functions, limit_s):
    """Run Frama-C once. Return: a Result"""
    with tempfile.TemporaryDirectory(prefix="omertad-proof-") as session:  # for Frama-C's notes
        command = ["frama-c", "-c11", "-machdep", "gcc_x86_64",
                   "-cpp-extra-args=-I. -include tests/proof/prelude.h",
                   "-wp", "-wp-rte", "-warn-unsigned-overflow", "-wp-prover", "tip,z3,cvc4", "-wp-auto", STRATEGY,
                   "-wp-session", session, "-wp-timeout", str(limit_s),
                   "-wp-par", "1", "-wp-cache", "none", f"-wp-prop=-{ASSUMED}", "-wp-fct", ",".join(functions), *sources]
        # Frama-C takes PWD for the folder it is in, whatever folder it is in.
        environment = {**os.environ, "WHY3CONFIG": str(config), "PWD": str(folder)}
        done = subprocess.run(command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise Broken(f"{' '.join(command)}\n{done.stdout[-4000:]}")
    result = Result(done.stdout)
    silent = [function for function in functions if not result.mentions(function)]
    if silent:
        raise Broken(f"no goal about {', '.join(silent)}")
    return result


def prove_all(config, pool, words):
    """Prove each property. Return: whether every goal is proven"""
    chosen = [entry for entry in PROPERTIES if not words or any(word in entry.name for word in words)]

    def attempt(entry):
        started = time.monotonic()
        return entry, prove(ROOT, config, entry.sources, entry.functions, GOAL_LIMITS_S), time.monotonic() - started

    proven = goals = 0
    for entry, result, seconds in pool.map(attempt, chosen):
        proven, goals = proven + result.proven, goals + result.goals
        whole = result.proven == result.goals
        print(f"  {'ok  ' if whole else 'FAIL'} {entry.name:10} {result.proven} of {result.goals} goals proven "
              f"{seconds:5.0f} s  {entry.promise}", flush=True)
        for goal in result.open:
            print(f"       not proven: {goal}")
    print(f"prove: {proven} of {goals} goals proven")
    return bool(chosen) and proven == goals


def break_in(folder, fault):
    """A copy of the sources with the fault in it."""
    for part in FOLDERS:
        shutil.copytree(ROOT / part, folder / part)
    path = folder / fault.source
    text = path.read_text(encoding="utf-8")
    if text.count(fault.old) != 1:
        raise Broken(f"{fault.name}: found {text.count(fault.old)} times in {fault.source}, not once: {fault.old!r}")
    path.write_text(text.replace(fault.old, fault.new), encoding="utf-8")


def refute_all(config, pool, words):
    """Plant each fault. Return: whether each leaves a goal unproven"""
    chosen = [fault for fault in FAULTS if not words or any(word in fault.name for word in words)]
    sources = {entry.name: entry.sources for entry in PROPERTIES}

    def attempt(fault):
        started = time.monotonic()
        # Without the fault the same goals are proven in the same time: so it is the fault that is refuted.
        control = prove(ROOT, config, sources[fault.breaks], fault.functions, FAULT_LIMITS_S)
        if control.proven != control.goals:
            raise Broken(f"{fault.name}: not proven without the fault either, within {FAULT_LIMITS_S[-1]} s: {control.open}")
        with tempfile.TemporaryDirectory(prefix="omertad-proof-") as name:
            break_in(pathlib.Path(name), fault)
            result = prove(name, config, sources[fault.breaks], fault.functions, FAULT_LIMITS_S)
        return fault, result, time.monotonic() - started

    refuted = 0
    for fault, result, seconds in pool.map(attempt, chosen):
        missed = result.proven == result.goals
        refuted += not missed
        print(f"  {'FAIL' if missed else 'ok  '} {fault.name:48} {seconds:5.0f} s  "
              f"{'STILL PROVEN' if missed else 'refuted at ' + ', '.join(result.open[:1])}", flush=True)
    print(f"prove-mutants: {refuted} of {len(chosen)} refuted")
    return bool(chosen) and refuted == len(chosen)


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
    with tempfile.TemporaryDirectory(prefix="omertad-why3-") as name, \
            concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        config = pathlib.Path(name) / "why3.conf"
        subprocess.run(["why3", "-C", config, "config", "detect"], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        whole = (refute_all if options.mutants else prove_all)(config, pool, options.words)
    return 0 if whole else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Broken as broken:
        print(f"prove: {broken}", file=sys.stderr)
        sys.exit(1)
