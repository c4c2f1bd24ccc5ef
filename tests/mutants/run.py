#!/usr/bin/env python3
"""Break nat/ on purpose and see that its unit tests notice: run.py [WORD]...

A copy of the sources in a temporary folder is built once, must pass, and is then broken in one way after the other
(faults.py), only those whose name has a WORD in it if there is one. The NAT is a shared library there, so that a fault
costs one compilation and one link, and no test is built again. The last line is `mutants: N of N caught`; exit code 0
only if each was.
"""

import argparse
import concurrent.futures
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

from faults import FAULTS

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIMIT_S = 60  # one test binary; a fault may make one hang, which is a way to be caught
CC = shlex.split(os.environ.get("CC", "cc"))
FLAGS = ["-std=c11", "-O1", "-g", "-fPIC", "-pthread", "-D_GNU_SOURCE", "-I."]
FIRST = ("test_packet", "test_verdict", "test_modes")  # quick ones, which catch most


class Broken(RuntimeError):
    """The runner cannot do its work; the message says why."""


def call(argv, folder):
    """A compiler's or linker's call that must succeed."""
    done = subprocess.run(argv, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise Broken(f"{' '.join(map(str, argv))}\n{done.stdout}")


def libraries():
    """What the NAT and its tests are linked with."""
    asked = subprocess.run(["pkg-config", "--libs", "libsodium", "cmocka"], check=True, capture_output=True, text=True)
    return shlex.split(asked.stdout)


def compile_one(folder, source, target=None):
    """Compile @source, a path from the folder. Return: the object"""
    target = target or folder / (source.replace("/", "_") + ".o")
    call([*CC, *FLAGS, "-c", "-o", target, source], folder)
    return target


class Bench:
    """A built copy of the NAT and its tests."""

    def __init__(self, folder, pool):
        self.folder, self._pool = folder, pool
        for part in ("base", "nat", "tests/nat"):
            shutil.copytree(ROOT / part, folder / part)
        shutil.copy(ROOT / "tests/cmocka.h", folder / "tests")
        self._libraries = libraries()
        sources = self._sources("nat") + self._sources("base")
        self.objects = dict(zip(sources, pool.map(lambda source: compile_one(folder, source), sources)))
        self._link(folder / "libnat.so", self.objects)
        self.tests = self._build_tests()

    def _sources(self, part):
        return [f"{part}/{path.name}" for path in sorted((self.folder / part).glob("*.c"))]

    def _link(self, target, objects):
        call([*CC, "-shared", "-pthread", "-o", target, *objects.values(), *self._libraries], self.folder)

    def _build_tests(self):
        sources = self._sources("tests/nat")
        objects = dict(zip(sources, self._pool.map(lambda source: compile_one(self.folder, source), sources)))
        support = [made for source, made in objects.items() if "/test_" not in source]
        found = []
        for source, made in objects.items():
            if "/test_" in source:
                found.append(self.folder / pathlib.Path(source).stem)
                call([*CC, "-pthread", "-o", found[-1], made, *support, "-L.", "-lnat", *self._libraries], self.folder)
        return sorted(found, key=lambda test: (test.name not in FIRST, test.name))

    def break_in(self, number, fault):
        """Build the NAT with a fault in it. Return: the folder of its library"""
        home, objects, texts = self.folder / f"fault{number}", dict(self.objects), {}
        home.mkdir()
        for name, old, new in fault.edits:
            text = texts.get(name) or (self.folder / name).read_text(encoding="utf-8")
            if text.count(old) != 1:
                raise Broken(f"{fault.name}: found {text.count(old)} times in {name}, not once: {old!r}")
            texts[name] = text.replace(old, new)
        for name, text in texts.items():
            source = home / pathlib.Path(name).name
            source.write_text(text, encoding="utf-8")
            objects[name] = compile_one(self.folder, str(source), source.with_suffix(".o"))
        self._link(home / "libnat.so", objects)
        return home

    def failing_test(self, library_folder):
        """The first test that does not pass with this library, "" when all do."""
        for test in self.tests:
            environment = {**os.environ, "LD_LIBRARY_PATH": str(library_folder)}
            try:
                done = subprocess.run([test], env=environment, cwd=self.folder, stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL, timeout=LIMIT_S)
            except subprocess.TimeoutExpired:
                return f"{test.name} (no end)"
            if done.returncode != 0:
                return test.name
        return ""


def try_faults(bench, pool, faults):
    """Plant each fault and run the tests. Return: number of those caught"""
    def attempt(numbered):
        number, fault = numbered
        started = time.monotonic()
        return fault, bench.failing_test(bench.break_in(number, fault)), time.monotonic() - started

    caught = 0
    for fault, by, seconds in pool.map(attempt, enumerate(faults)):
        caught += bool(by)
        print(f"  {'ok  ' if by else 'FAIL'} {fault.name:56} {seconds:5.1f} s  "
              f"{'caught by ' + by if by else 'NOT CAUGHT'}", flush=True)
    return caught


def main():
    """Run what the command line asks for. Return: exit code"""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="only faults whose name has one of these in it")
    words = parser.parse_args().words
    faults = [fault for fault in FAULTS if not words or any(word in fault.name for word in words)]
    with tempfile.TemporaryDirectory(prefix="omertad-mutants-") as name, \
            concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        bench = Bench(pathlib.Path(name), pool)
        failing = bench.failing_test(bench.folder)
        if failing:
            raise Broken(f"{failing} fails without any fault")
        caught = try_faults(bench, pool, faults)
    print(f"mutants: {caught} of {len(faults)} caught")
    return 0 if faults and caught == len(faults) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Broken as broken:
        print(f"mutants: {broken}", file=sys.stderr)
        sys.exit(1)
