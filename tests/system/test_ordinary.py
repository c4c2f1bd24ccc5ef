"""This lab itself, started as an ordinary user: what it makes of itself is a namespace with that user's subordinate ids."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from case import LabCase
from lab import image_folder, program

UID = 61236  # neither the daemon's nor anybody's
LIMIT_S = 120
HERE = pathlib.Path(__file__).resolve().parent


class OrdinaryUser(LabCase):
    """Needs root, to become somebody else."""

    def setUp(self):
        if os.geteuid() != 0 or not self.lab.user.real_root:
            self.skipTest("all of this runs as an ordinary user already")
        if not shutil.which("newuidmap"):
            self.skipTest("newuidmap is missing: apt install uidmap")
        folder = tempfile.TemporaryDirectory(prefix="omertad-test-")  # the lab in this lab has another /run
        self.addCleanup(folder.cleanup)
        home = pathlib.Path(folder.name)
        shutil.copy(program(), home / "omertad")
        shutil.copytree(image_folder(), home / "micro")  # where it was built it is its builder's alone
        for path in (home, *home.rglob("*")):
            os.chown(path, UID, UID)
        self.lab.append_to_etc({"passwd": f"ordinary:x:{UID}:{UID}::{home}:/bin/sh", "group": f"ordinary:x:{UID}:"},
                               self.addCleanup)
        self.environment = {**os.environ, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1",
                            "OMERTAD": str(home / "omertad"), "OMERTAD_IMAGE": str(home / "micro")}
        if self.run_as_user("test", "-r", HERE / "run.py").returncode != 0:
            self.skipTest(f"{HERE} is closed to other users")

    def run_as_user(self, *argv):
        """Run a command as that user to its end."""
        return subprocess.run(["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", *map(str, argv)], check=False,
                              env=self.environment, capture_output=True, text=True, timeout=LIMIT_S)

    def test_a_vm_is_leased_and_taken_over(self):
        """The daemon's descriptors are counted, and another daemon looks at what the first one left."""
        ids = f"ordinary:{1 << 20}:65536"
        self.lab.append_to_etc({"subuid": ids, "subgid": ids}, self.addCleanup)
        done = self.run_as_user(sys.executable, HERE / "run.py", "-k", "an_upgrade_takes_the_place",
                                "-k", "many_followers_miss_nothing")
        if done.returncode == 3:
            self.skipTest(f"this machine does not allow it: {done.stderr.strip()}")
        self.assertEqual((0, ""), (done.returncode, done.stderr), done.stdout)
        self.assertIn("2 passed, 0 failed, 0 skipped", done.stdout)

    def test_without_subordinate_ids_it_says_what_to_do(self):
        done = self.run_as_user(sys.executable, HERE / "run.py", "-k", "many_followers_miss_nothing")
        self.assertEqual(3, done.returncode)
        self.assertRegex(done.stderr, "ordinary has no 65536 subordinate ids in /etc/subuid: .*usermod --add-subuids")
