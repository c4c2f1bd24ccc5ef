#!/usr/bin/env python3
"""Run the unit tests of a build with coverage and say what they reach: cover.py --build DIR

The pure core of nat/ has to reach every branch that is not in the list below, everything else LINES_LEAST percent of its lines,
all files together. Exit code 0 only if so.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
LIMIT_S = 600
LINES_LEAST = 90
CORE = ("packet", "allowlist", "conntrack", "sampler", "bucket", "verdict", "flow", "arp", "dhcp", "compose", "checksum",
        "wireguard", "violation", "judge", "segment")
# Branches that no input reaches, by file, each with its reason.
UNREACHABLE = {
    "nat/verdict.c": (5, "cases of enum switches that earlier lines have answered, and values that are no enumerator"),
    "nat/wireguard.c": (1, "a value that is no enumerator"),
    "nat/judge.c": (1, "calloc(3) of a few kilobytes fails"),
    "nat/packet.c": (1, "a total length above the MTU inside a frame that is not: checked again where it is used"),
}


def run_tests(build, folder):
    """Run each unit test, each of its processes with a profile of its own. Return: (the binaries, whether all passed)"""
    good = True
    binaries = sorted(path for path in (build / "tests").rglob("test_*") if path.suffix == "")
    for binary in binaries:
        profile = folder / f"{binary.parent.name}-{binary.name}-%p.profraw"
        done = subprocess.run([binary], cwd=ROOT, env={**os.environ, "LLVM_PROFILE_FILE": str(profile)},
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT_S, umask=0)
        if done.returncode != 0:
            print(f"  FAIL {binary.parent.name}/{binary.name}")
            good = False
    return binaries, good


def summaries(binaries, folder):
    """What llvm-cov says. Return: {source: (lines, lines reached, branches, branches reached)}

    Branches inside of macros are left out: REQUIRE() has one that no test may reach.
    """
    profile = folder / "all.profdata"
    subprocess.run(["llvm-profdata-14", "merge", "-sparse", *folder.glob("*.profraw"), "-o", profile], check=True)
    objects = [str(binaries[0]), *(part for binary in binaries[1:] for part in ("-object", str(binary)))]
    told = subprocess.run(["llvm-cov-14", "export", f"-instr-profile={profile}", *objects], check=True,
                          stdout=subprocess.PIPE, cwd=ROOT)
    found = {}
    for entry in json.loads(told.stdout)["data"][0]["files"]:
        name = os.path.normpath(entry["filename"]).removeprefix(str(ROOT) + "/")  # "./nat/..." by -ffile-prefix-map
        if name.endswith(".c") and not name.startswith(("tests/", "/", "build/")):
            lines = entry["summary"]["lines"]
            reached = [count > 0 for branch in entry["branches"] for count in branch[4:6]]
            found[name] = (lines["count"], lines["covered"], len(reached), sum(reached))
    return found


def main():
    """Run what the command line asks for. Return: exit code"""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, required=True)
    build = (ROOT / parser.parse_args().build).resolve()
    with tempfile.TemporaryDirectory(prefix="omertad-cover-") as name:
        os.chmod(name, 0o777)  # a test becomes another user, who writes the profile that was made by the first
        binaries, good = run_tests(build, pathlib.Path(name))
        found = summaries(binaries, pathlib.Path(name))
    lines, covered = 0, 0
    for source, (all_lines, lines_reached, branches, reached) in sorted(found.items()):
        core = source in {f"nat/{part}.c" for part in CORE}
        justified = UNREACHABLE.get(source, (0, ""))[0]
        whole = not core or branches - reached <= justified
        good = good and whole
        if not core:
            lines, covered = lines + all_lines, covered + lines_reached
        print(f"  {'ok  ' if whole else 'FAIL'} {source:28} lines {100 * lines_reached / max(all_lines, 1):5.1f} %  "
              f"branches {reached} of {branches}{'  core' if core else ''}"
              f"{f', {justified} unreachable' if justified else ''}")
    for source in {f"nat/{part}.c" for part in CORE} - set(found):
        print(f"  FAIL {source}: not found")
        good = False
    share = 100 * covered / max(lines, 1)
    good = good and share >= LINES_LEAST
    print(f"cover: {share:.1f} % of the lines outside the core (at least {LINES_LEAST})")
    return 0 if good and found else 1


if __name__ == "__main__":
    sys.exit(main())
