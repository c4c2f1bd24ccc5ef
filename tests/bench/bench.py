#!/usr/bin/env python3
"""Measures, prints tables and, if asked, writes JSON: bench.py [--json FILE] [--rounds N] [SECTION]...

A section is a file section_NAME.py in this folder with

    TITLE                       one line
    measure(options) -> dict    what JSON can hold; options has .build (folder of the binaries) and .rounds
    table(result) -> [str]      the lines to print

Nothing passes or fails by its time: a figure is to be compared with the others of the same run, never with another day's.
"""

import argparse
import importlib
import json
import os
import pathlib
import platform
import sys
import time

FOLDER = pathlib.Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent


def sections():
    """Names of the sections that are there."""
    return sorted(path.stem.removeprefix("section_") for path in FOLDER.glob("section_*.py"))


def machine():
    """What the figures were measured on."""
    return {"cpus": os.cpu_count(), "kernel": platform.release(), "load": os.getloadavg()[0],
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def parse():
    """The command line."""
    known = sections()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "host")
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement; the median counts (default 5)")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the results there as well")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(known)}; all by default")
    options = parser.parse_args()
    unknown = set(options.sections) - set(known)
    if unknown:
        parser.error(f"no such section: {', '.join(sorted(unknown))} (there are {', '.join(known)})")
    if options.rounds < 1:
        parser.error("--rounds is 1 at least")
    options.build = options.build.resolve()
    options.sections = options.sections or known
    return options


def main():
    """Run what the command line asks for. Return: exit code"""
    options = parse()
    results = {"machine": machine()}
    for name in options.sections:
        section = importlib.import_module(f"section_{name}")
        print(f"{section.TITLE}\n", flush=True)
        began = time.monotonic()
        results[name] = section.measure(options)
        print("\n".join(section.table(results[name])))
        print(f"\n{name}: {time.monotonic() - began:.0f} s\n", flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(FOLDER))
    sys.exit(main())
