"""A real systemd, the manager of one ordinary user, in cgroups of its own. What it needs mounted is this process' alone."""

import os
import pathlib
import signal
import subprocess

from case import wait_for
from daemon import UID

PROGRAM = "/lib/systemd/systemd"
LIMIT = 60.0


class Missing(RuntimeError):
    """It cannot be run here; the message says why."""


class UserManager:
    """Started in a root folder, it knows the units there and those of the user's home. @add_cleanup is a test's."""

    def __init__(self, lab, daemon, add_cleanup, root="/"):
        """@daemon: whose folder has the user's home and gets the manager's log. Raise: Missing"""
        self._lab, self._root = lab, pathlib.Path(root)
        if os.geteuid() != 0 or not lab.user.real_root or not self._inside(PROGRAM).exists():
            raise Missing("a manager in cgroups of its own needs root and systemd")
        groups = self._inside("/sys/fs/cgroup")
        mounted = subprocess.run(["mount", "-t", "cgroup2", "cgroup2", str(groups)], check=False, capture_output=True)
        if mounted.returncode != 0:
            raise Missing(f"no cgroups of version 2: {mounted.stderr.decode()}")
        add_cleanup(subprocess.run, ["umount", str(groups)], check=True)
        self._group = groups / f"omertad-test-{os.getpid()}"
        own = self._group / "user"
        own.mkdir(parents=True)
        add_cleanup(self._remove_groups)
        for path in (own, *own.iterdir()):
            os.chown(path, UID, UID)
        runtime = self._inside(f"/run/user/{UID}")
        runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chown(runtime, UID, UID)
        self._inside("/run/systemd/system").mkdir(parents=True, exist_ok=True)
        self._environment = {"HOME": str(daemon.folder / "home"), "XDG_RUNTIME_DIR": f"/run/user/{UID}",
                             "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_IGNORE_CHROOT": "1"}
        log = open(daemon.folder / "manager.log", "wb")
        add_cleanup(log.close)
        into = f"echo $$ >{own}/cgroup.procs; exec \"$@\""
        self._process = lab.prov.start("sh", "-c", into, "sh",
                                       *self._as_user(PROGRAM, "--user", "--log-target=console", "--unit=basic.target"),
                                       env=self._environment, stdout=log, stderr=log)
        add_cleanup(self._end)
        wait_for(lambda: any(word in self.ask("is-system-running") for word in ("running", "degraded")), LIMIT,
                 "the manager runs")

    def _inside(self, path):
        return self._root / path.lstrip("/")

    def _as_user(self, *argv):
        words = self._lab.user.command(*argv)
        return words if self._root == pathlib.Path("/") else ["chroot", str(self._root), *words]

    def _remove_groups(self):
        for path in sorted(self._group.rglob("*"), reverse=True):
            if path.is_dir():
                path.rmdir()
        self._group.rmdir()

    def _end(self):
        self.ask("stop", "omertad.service")
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(LIMIT)
        # Whatever it left in its groups goes before they can.
        for path in (path for path in self._group.rglob("cgroup.procs") if path.read_text(encoding="ascii")):
            for pid in path.read_text(encoding="ascii").split():
                os.kill(int(pid), signal.SIGKILL)
        wait_for(lambda: not any(path.read_text(encoding="ascii") for path in self._group.rglob("cgroup.procs")), LIMIT,
                 "the groups are empty")

    def ask(self, *words):
        """systemctl --user. Return: what it says"""
        done = self._lab.prov.run(*self._as_user("systemctl", "--user", *words), check=False, timeout=LIMIT,
                                  env=self._environment)
        return done.stdout + done.stderr

    def property(self, name):
        """A property of the service."""
        return self.ask("show", "--property", name, "--value", "omertad.service").strip()
