"""The service under a real systemd, the manager of one ordinary user: started, upgraded, killed and stopped with a VM on it."""

import os
import pathlib
import signal
import subprocess

from case import LabCase, wait_for
from daemon import ROOT, UID, process_field

CGROUPS = pathlib.Path("/sys/fs/cgroup")
LIMIT = 60.0


class UserService(LabCase):
    """One manager in cgroups of its own; mounts are this process' alone."""

    @classmethod
    def setUpClass(cls):
        manager = pathlib.Path("/lib/systemd/systemd")
        if os.geteuid() != 0 or not cls.lab.user.real_root or not manager.exists():
            raise cls.skipTest(cls, "a manager in cgroups of its own needs root and systemd")
        mounted = subprocess.run(["mount", "-t", "cgroup2", "cgroup2", str(CGROUPS)], check=False, capture_output=True)
        if mounted.returncode != 0:
            raise cls.skipTest(cls, f"no cgroups of version 2: {mounted.stderr.decode()}")
        cls.addClassCleanup(subprocess.run, ["umount", str(CGROUPS)], check=True)
        cls.group = CGROUPS / f"omertad-test-{os.getpid()}"
        own = cls.group / "user"
        own.mkdir(parents=True)
        cls.addClassCleanup(cls._remove_groups)
        for path in (own, *own.iterdir()):
            os.chown(path, UID, UID)
        runtime = pathlib.Path(f"/run/user/{UID}")
        runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chown(runtime, UID, UID)
        pathlib.Path("/run/systemd/system").mkdir(parents=True, exist_ok=True)

        cls.daemon = cls.lab.daemon("user-service")
        home = cls.daemon.folder / "home"
        cls._write(home / ".config/systemd/user/omertad.service",
                   (ROOT / "deploy/systemd/omertad.service.in").read_text(encoding="utf-8").replace(
                       "@BINDIR@", str(cls.daemon.folder)))
        cls._write(home / ".config/omertad/omertad.json", cls.daemon.config_file.read_text(encoding="utf-8"))
        cls.lab.user.give(home)
        cls.environment = {"HOME": str(home), "XDG_RUNTIME_DIR": str(runtime), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        cls._log = open(cls.daemon.folder / "manager.log", "wb")
        cls.addClassCleanup(cls._log.close)
        into = f"echo $$ >{own}/cgroup.procs; exec \"$@\""
        words = cls.lab.user.command(manager, "--user", "--log-target=console", "--unit=basic.target")
        cls._manager = cls.lab.prov.start("sh", "-c", into, "sh", *words, env=cls.environment, stdout=cls._log,
                                          stderr=cls._log)
        cls.addClassCleanup(cls._end_manager)
        wait_for(lambda: "running" in cls._ask("is-system-running") or "degraded" in cls._ask("is-system-running"),
                 LIMIT, "the manager runs")

    @classmethod
    def _write(cls, path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    @classmethod
    def _remove_groups(cls):
        for path in sorted(cls.group.rglob("*"), reverse=True):
            if path.is_dir():
                path.rmdir()
        cls.group.rmdir()

    @classmethod
    def _end_manager(cls):
        cls._ask("stop", "omertad.service")
        cls._manager.send_signal(signal.SIGTERM)
        cls._manager.wait(LIMIT)
        # Whatever it left in its groups goes before they can.
        for path in (path for path in cls.group.rglob("cgroup.procs") if path.read_text(encoding="ascii")):
            for pid in path.read_text(encoding="ascii").split():
                os.kill(int(pid), signal.SIGKILL)
        wait_for(lambda: not any(path.read_text(encoding="ascii") for path in cls.group.rglob("cgroup.procs")), LIMIT,
                 "the groups are empty")

    @classmethod
    def _ask(cls, *words):
        """systemctl --user. Return: what it says"""
        done = cls.lab.prov.run(*cls.lab.user.command("systemctl", "--user", *words), check=False, timeout=LIMIT,
                                env=cls.environment)
        return done.stdout + done.stderr

    def _property(self, name):
        return self._ask("show", "--property", name, "--value", "omertad.service").strip()

    def _adopted(self, lease, pid):
        """Wait for another daemon that enforces for the same lease."""
        wait_for(lambda: self._property("MainPID") not in ("0", str(pid)), LIMIT, "another daemon")
        wait_for(lambda: self._property("ActiveState") == "active", LIMIT, "it serves")
        wait_for(lambda: lease.read()["filter"]["enforcement"] == "enforcing", LIMIT, "it enforces")
        return int(self._property("MainPID"))

    def test_started_upgraded_killed_and_stopped(self):
        self.assertEqual("", self._ask("start", "omertad.service"), self._ask("status", "omertad.service"))
        self.assertEqual(("active", "running"), (self._property("ActiveState"), self._property("SubState")))
        pid = int(self._property("MainPID"))
        self.assertEqual("Serving leases.", self._property("StatusText"))
        self.assertEqual(["2", "1", str(UID)], [process_field(pid, "Seccomp"), process_field(pid, "NoNewPrivs"),
                                                 process_field(pid, "Uid").split()[0]])
        wait_for(self._is_ready, LIMIT, "the daemon is ready")
        lease = self.lab.lease(self.daemon)
        lease.wait_tunnel()
        machines = self.daemon.machines()
        self.assertEqual(1, len(machines))

        self.assertEqual("", self._ask("reload", "omertad.service"))
        second = self._adopted(lease, pid)
        self.assertEqual(machines, self.daemon.machines(), "an upgrade leaves the machine alone")

        os.kill(second, signal.SIGKILL)
        self._adopted(lease, second)
        self.assertEqual(machines, self.daemon.machines(), "a crash leaves the machine alone")
        self.assertEqual("running", lease.read()["state"])

        self.assertEqual("", self._ask("stop", "omertad.service"))
        self.assertEqual("inactive", self._property("ActiveState"))
        wait_for(lambda: not self.daemon.left_over(), LIMIT, "nothing left over")

    def _is_ready(self):
        try:
            return self.daemon.client().request("GET", "/readyz").status == 200
        except OSError:
            return False
