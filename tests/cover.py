#!/usr/bin/env python3
"""Run the tests of a build with coverage and say what they reach: cover.py --build DIR --profiles DIR --images DIR

What runs: every unit test with the replayed corpora of the fuzzers, and those system tests whose names hold a word of SYSTEM,
with the daemon of the same build: they alone reach direct mode's launcher, which lives in namespaces and becomes a hypervisor,
the subcommands, and the handlers together with a store and machines.

What counts: each line of each source of the daemon that is compiled here, whether some test's binary has it or not; what a process
did that was killed, ended with _exit(2) or became another program counts too, for each process counts in a mapped file.

The pure core of nat/ has to reach every branch that is not in the list below by the unit tests alone, everything else LINES_LEAST
percent of its lines, all files together. Exit code 0 only if so.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
LIMIT_S = 600
LINES_LEAST = 90
AT_ONCE = 3  # unit tests; they wait more than they work
# Parts of the names of system tests that take seconds, not minutes.
SYSTEM = ("test_doctor.", "test_requests.", "test_events.", "test_drain.", "test_tokens.", "test_policy.Policy.", "test_lease.",
          "test_nat.", "test_external.External.", "RunMachine.", "RunWithoutDaemon.", "Restart.test_an_upgrade",
          "Restart.test_a_vm_lives", "control.Retries.", "control.Lists.", "TimeLimits.test_a_renewal", "TimeLimits.test_bad",
          "BootDirect.", "DirectTables.test_09")
CORE = ("packet", "allowlist", "conntrack", "sampler", "bucket", "verdict", "flow", "arp", "dhcp", "compose", "checksum",
        "wireguard", "violation", "judge", "segment")
# Branches that no input reaches, by file, each with its reason.
UNREACHABLE = {
    "nat/verdict.c": (5, "cases of enum switches that earlier lines have answered, and values that are no enumerator"),
    "nat/wireguard.c": (1, "a value that is no enumerator"),
    "nat/judge.c": (1, "calloc(3) of a few kilobytes fails"),
    "nat/packet.c": (1, "a total length above the MTU inside a frame that is not: checked again where it is used"),
}


def run_unit_test(binary, folder):
    """Run one unit test, each of its processes with a profile of its own. Return: whether it passed"""
    profile = folder / f"{binary.parent.name}-{binary.name}-%p%c.profraw"
    done = subprocess.run([binary], cwd=ROOT, env={**os.environ, "LLVM_PROFILE_FILE": str(profile)},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT_S, umask=0)
    if done.returncode != 0:
        print(f"  FAIL {binary.parent.name}/{binary.name}\n{done.stdout.decode(errors='replace')[-3000:]}", flush=True)
    return done.returncode == 0


def run_unit_tests(binaries, folder):
    """Run all of them. Return: whether all passed"""
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        return all(list(pool.map(lambda binary: run_unit_test(binary, folder), binaries)))


def run_system_tests(daemon, images):
    """Run those that SYSTEM names. Return: whether all passed"""
    words = [word for name in SYSTEM for word in ("-k", name)]
    done = subprocess.run([sys.executable, ROOT / "tests/system/run.py", *words], cwd=ROOT, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=LIMIT_S,
                          env={**os.environ, "OMERTAD": str(daemon), "OMERTAD_IMAGE": str(images / "micro")})
    lines = done.stdout.decode(errors="replace").splitlines()
    print("\n".join(lines[-1:] if done.returncode == 0 else lines), flush=True)
    return done.returncode == 0


def sources():
    """Every source of the daemon, as the Makefile has them."""
    patterns = ("base/*.c", "nat/*.c", "store/*.c", "vmm/*.c", "api/*/*.c")
    return {str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern)}


def summaries(binaries, profiles, merged):
    """What llvm-cov says. Return: {source: (lines, lines reached, branches, branches reached)}

    Branches inside of macros are left out: REQUIRE() has one that no test may reach.
    """
    subprocess.run(["llvm-profdata-14", "merge", "-sparse", *profiles, "-o", merged], check=True)
    objects = [str(binaries[0]), *(part for binary in binaries[1:] for part in ("-object", str(binary)))]
    told = subprocess.run(["llvm-cov-14", "export", f"-instr-profile={merged}", *objects], check=True,
                          stdout=subprocess.PIPE, cwd=ROOT)
    found = {}
    for entry in json.loads(told.stdout)["data"][0]["files"]:
        name = os.path.normpath(entry["filename"]).removeprefix(str(ROOT) + "/")  # "./nat/..." by -ffile-prefix-map
        if name in sources():
            lines = entry["summary"]["lines"]
            reached = [count > 0 for branch in entry["branches"] for count in branch[4:6]]
            found[name] = (lines["count"], lines["covered"], len(reached), sum(reached))
    return found


def judge_core(found):
    """Say which branches of the core are reached. Return: whether all are that can be"""
    good = True
    for source in sorted(f"nat/{part}.c" for part in CORE):
        lines, lines_reached, branches, reached = found.get(source, (0, 0, 0, 0))
        justified = UNREACHABLE.get(source, (0, ""))[0]
        whole = source in found and branches - reached <= justified
        good = good and whole
        print(f"  {'ok  ' if whole else 'FAIL'} {source:28} lines {100 * lines_reached / max(lines, 1):5.1f} %  "
              f"branches {reached} of {branches}{f', {justified} unreachable' if justified else ''}")
    return good


def judge_rest(found):
    """Say which lines of the rest are reached. Return: whether enough are"""
    lines, covered = 0, 0
    for source in sorted(sources() - {f"nat/{part}.c" for part in CORE}):
        all_lines, lines_reached, branches, reached = found.get(source, (0, 0, 0, 0))
        lines, covered = lines + all_lines, covered + lines_reached
        if all_lines > 0:  # nothing of it is compiled here: for another system
            print(f"       {source:28} lines {100 * lines_reached / all_lines:5.1f} %  branches {reached} of {branches}")
    share = 100 * covered / max(lines, 1)
    print(f"cover: {covered} of {lines} lines outside the core, {share:.1f} % (at least {LINES_LEAST})")
    return share >= LINES_LEAST


def main():
    """Run what the command line asks for. Return: exit code"""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--profiles", type=pathlib.Path, required=True, help="where the daemon was built to have them")
    parser.add_argument("--images", type=pathlib.Path, required=True)
    options = parser.parse_args()
    build = (ROOT / options.build).resolve()
    units = sorted(path for path in (build / "tests").rglob("test_*") if path.suffix == "")
    shutil.rmtree(options.profiles, ignore_errors=True)
    options.profiles.mkdir(mode=0o700)  # fails where somebody else's is
    options.profiles.chmod(0o1777)  # the daemon runs as another user, and so do parts of tests
    with tempfile.TemporaryDirectory(prefix="omertad-cover-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o777)
        try:
            good = run_unit_tests(units, folder)
            good = run_system_tests(build / "omertad", (ROOT / options.images).resolve()) and good
            of_units = summaries(units, folder.glob("*.profraw"), folder / "units.profdata")
            of_all = summaries([*units, build / "omertad"],
                               [folder / "units.profdata", *options.profiles.glob("*.profraw")], folder / "all.profdata")
        finally:
            shutil.rmtree(options.profiles)
    good = judge_core(of_units) and good
    return 0 if judge_rest(of_all) and good else 1


if __name__ == "__main__":
    sys.exit(main())
