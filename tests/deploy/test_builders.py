#!/usr/bin/env python3
"""What the builders of guest images share (deploy/guest/builder.sh), by a builder of a few bytes; and what one sees of it."""

import os
import pathlib
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIMIT_S = 20

BUILDER = """#!/bin/sh
set -eu
fail=
label=tiny arguments=" [--fail]" files="vmlinuz initrd"
here=$(cd "$(dirname "$0")" && pwd)
. "$here/builder.sh"
take_option() { [ "$1" = --fail ] && fail=yes; }
take_arguments "$@"
if is_current; then
    step "$output is up to date"
    exit 0
fi
check_output
prepare
doing "making files"
sleep "${TINY_SECONDS:-0}"
echo kernel >"$new/vmlinuz"
echo "${TINY_INITRD:-initrd}" >"$new/initrd"
[ -z "$fail" ] || die "asked to fail"
step "files made"
printf '{"kernel": %s, "initrd": %s}\\n' "$(file_entry vmlinuz)" "$(file_entry initrd)" >"$new/manifest.json"
finish
"""


def on_terminal(argv, environment=None):
    """Run on a terminal of its own. Return: (exit code, what it wrote)."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(argv[0], [str(word) for word in argv], {**os.environ, **(environment or {})})
    written, until = b"", time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux says EIO at the end
            break
        if not piece:
            break
        written += piece
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), written.decode()


class Builders(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.program, self.image, self.work = self.folder / "build-tiny.sh", self.folder / "image", self.folder / "work"
        self.program.write_text(BUILDER, encoding="ascii")
        shutil.copy(ROOT / "deploy/guest/builder.sh", self.folder)
        (self.folder / "tiny").mkdir()

    def command(self, *words):
        return ["sh", self.program, self.image, "--work", self.work, *words]

    def build(self, *words, **environment):
        return subprocess.run(self.command(*words), capture_output=True, text=True, timeout=LIMIT_S, check=False,
                              env={**os.environ, **environment})

    def assert_tidy(self):
        """Nothing but the image beside it, and in the work folder nothing but the cache."""
        self.assertEqual({"build-tiny.sh", "builder.sh", "tiny", "image", "work"}, set(os.listdir(self.folder)))
        self.assertEqual(["cache"], os.listdir(self.work))

    def test_an_ordinary_user_s_path_finds_what_is_in_sbin(self):
        self.program.write_text(BUILDER.replace("check_output\n", "check_output; need ldconfig libc-bin\n"), encoding="ascii")
        done = self.build(PATH="/usr/bin:/bin")
        self.assertEqual((0, ""), (done.returncode, done.stderr))

    def test_in_a_pipe_each_line_stays_and_nothing_moves(self):
        done = self.build(TINY_SECONDS="1.5")
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        self.assertEqual(["tiny: making files ...", "tiny: files made", f"tiny: {self.image} is ready"], done.stdout.splitlines())
        self.assert_tidy()

    def test_what_is_made_above_an_image_is_its_user_s_alone(self):
        """The first image may come before the daemon, which starts with no data folder that others can read."""
        self.image = self.folder / "data/images/tiny"
        self.assertEqual(0, self.build().returncode)
        modes = [folder.stat().st_mode & 0o777 for folder in (self.folder / "data", self.image.parent, self.image)]
        self.assertEqual([0o700, 0o700, 0o755], modes)

    def test_on_a_terminal_one_line_counts_and_is_gone_at_the_end(self):
        code, written = on_terminal(self.command(), {"TINY_SECONDS": "2.5"})
        self.assertEqual(0, code, written)
        self.assertIn("\r\033[Ktiny: making files ... 0 s", written)
        self.assertRegex(written, r"\r\033\[Ktiny: making files \.\.\. [12] s")
        left = re.sub(r"[^\n]*\r\033\[K", "", written.replace("\r\n", "\n"))
        self.assertEqual(["tiny: files made", f"tiny: {self.image} is ready"], left.splitlines())
        self.assert_tidy()

    def test_a_failure_on_a_terminal_is_told_on_a_line_of_its_own(self):
        code, written = on_terminal(self.command("--fail"))
        self.assertEqual(1, code)
        self.assertTrue(written.endswith("\r\033[Kbuild-tiny.sh: asked to fail\r\n"), repr(written))

    def test_a_build_that_fails_leaves_the_image_that_was(self):
        self.build()
        (self.folder / "tiny/changed").touch()
        done = self.build("--fail", TINY_INITRD="other")
        self.assertEqual((1, "build-tiny.sh: asked to fail\n"), (done.returncode, done.stderr))
        self.assertEqual("initrd\n", (self.image / "initrd").read_text(encoding="ascii"))
        self.assert_tidy()

    def test_one_that_is_interrupted_leaves_nothing_either(self):
        with subprocess.Popen(self.command(), stdout=subprocess.DEVNULL, env={**os.environ, "TINY_SECONDS": "1"}) as process:
            until = time.monotonic() + LIMIT_S
            while not list(self.folder.glob("image.new.*")) and time.monotonic() < until:
                time.sleep(0.02)
            process.send_signal(signal.SIGTERM)
            self.assertEqual(1, process.wait(LIMIT_S))
        self.assertEqual({"build-tiny.sh", "builder.sh", "tiny", "work"}, set(os.listdir(self.folder)))

    def test_an_image_that_is_current_is_left_alone_and_one_that_was_changed_is_not(self):
        self.build()
        made = os.stat(self.image).st_ino
        self.assertEqual(f"tiny: {self.image} is up to date\n", self.build().stdout)
        self.assertEqual(made, os.stat(self.image).st_ino)
        (self.image / "initrd").write_text("else\n", encoding="ascii")
        self.assertIn("is ready", self.build().stdout)
        self.assertEqual("initrd\n", (self.image / "initrd").read_text(encoding="ascii"))

    def test_a_folder_with_other_files_is_refused(self):
        self.image.mkdir()
        (self.image / "letter").touch()
        done = self.build()
        self.assertEqual(1, done.returncode)
        self.assertIn("holds other files than an image", done.stderr)
        self.assertEqual(["letter"], os.listdir(self.image))

    def test_the_command_line_is_read_as_its_usage_says(self):
        for words in ([], ["a", "b"], ["a", "--other"], ["a", "--work"]):
            done = subprocess.run(["sh", self.program, *words], capture_output=True, text=True, check=False, timeout=LIMIT_S)
            self.assertEqual((1, "build-tiny.sh: usage: build-tiny.sh OUTPUT_DIR [--work DIR] [--fail]\n"),
                             (done.returncode, done.stderr), words)


if __name__ == "__main__":
    sys.exit(unittest.main())
