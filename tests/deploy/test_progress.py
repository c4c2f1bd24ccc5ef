#!/usr/bin/env python3
"""What `make demo` and `make run` show while one waits: on a terminal a line that counts, in a pipe lines that stay."""

import pathlib
import re
import subprocess
import sys
import unittest

from test_builders import on_terminal

ROOT = pathlib.Path(__file__).resolve().parents[2]
WAIT = """
import sys, time
sys.path.insert(0, "tests/system")
from progress import Progress
progress = Progress()
progress.doing("starting")
time.sleep(1.3)
progress.doing("waiting")
progress.say("ready")
"""


class Shown(unittest.TestCase):
    def test_in_a_pipe_each_line_stays(self):
        done = subprocess.run([sys.executable, "-c", WAIT], capture_output=True, text=True, cwd=ROOT, timeout=20, check=True)
        self.assertEqual("starting ...\nwaiting ...\nready\n", done.stdout)

    def test_on_a_terminal_only_what_was_said_stays(self):
        code, written = on_terminal(["env", f"--chdir={ROOT}", sys.executable, "-c", WAIT])
        self.assertEqual(0, code, written)
        self.assertIn("\r\033[Kstarting ... 1 s", written)
        self.assertEqual("ready\n", re.sub(r"[^\n]*\r\033\[K", "", written.replace("\r\n", "\n")))


if __name__ == "__main__":
    unittest.main()
