#!/usr/bin/env python3
"""Run the system tests: run.py [-k WORD]... [--failfast]

One line a test, and at the end `system: N passed, M failed, K skipped`. Exit code 0 when none failed, 3 when the
machine does not allow the lab.
"""

import argparse
import pathlib
import sys
import time
import traceback
import unittest

FAILURE_BYTES = 6000  # enough to understand one failure
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import case  # noqa: E402
import lab  # noqa: E402


class Result(unittest.TestResult):
    """One line for each test, and all that helps to understand a failure."""

    def __init__(self):
        super().__init__()
        self.passed = 0
        self._started = time.monotonic()

    def startTest(self, test):
        super().startTest(test)
        self._started = time.monotonic()

    @staticmethod
    def _name(test):
        words = test.id().removeprefix("test_").split(".")
        return ".".join(word.removeprefix("test_") for word in words)

    def _line(self, word, test, note=""):
        seconds = time.monotonic() - self._started
        print(f"{word:4} {seconds:6.2f} s  {self._name(test)}{note}", flush=True)

    def _failed(self, test, error):
        self._line("FAIL", test)
        print("".join(traceback.format_exception(*error))[:FAILURE_BYTES], flush=True)
        daemon = getattr(test, "daemon", None) or getattr(case.DaemonCase, "daemon", None)
        if daemon:
            print("the daemon's last lines:\n" + "\n".join(daemon.log().splitlines()[-25:]), flush=True)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed += 1
        self._line("ok", test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._failed(test, err)

    def addError(self, test, err):
        super().addError(test, err)
        self._failed(test, err)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err:
            self._failed(subtest, err)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._line("skip", test, f": {reason}")


def main():
    """Run what the command line asks for. Return: exit code"""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-k", action="append", default=[], metavar="WORD", help="only tests whose name has this in it")
    parser.add_argument("--failfast", action="store_true", help="stop at the first failure")
    options = parser.parse_args()
    loader = unittest.TestLoader()
    loader.testNamePatterns = [f"*{word}*" for word in options.k] or None
    suite = loader.discover(str(HERE), "test_*.py")
    result = Result()
    result.failfast = options.failfast
    started = time.monotonic()
    with lab.Lab() as case.LabCase.lab:
        suite.run(result)
        strays = case.LabCase.lab.prov.processes()
    failed = len(result.failures) + len(result.errors) + len(strays)
    for pid, words in strays:
        print(f"FAIL           left over: process {pid} {words}")
    print(f"system: {result.passed} passed, {failed} failed, {len(result.skipped)} skipped "
          f"({time.monotonic() - started:.0f} s)")
    return 1 if failed or not result.passed else 0


if __name__ == "__main__":
    sys.exit(lab.run(main))
