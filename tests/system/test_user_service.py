"""The service under a real systemd, the manager of one ordinary user: started, upgraded, killed and stopped with a VM on it."""

import os
import signal

from case import LabCase, wait_for
from daemon import ROOT, UID, process_field
from user_manager import LIMIT, Missing, UserManager


def write(path, text):
    """A file in folders that need not be there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


class UserService(LabCase):
    """One manager with one service."""

    @classmethod
    def setUpClass(cls):
        cls.daemon = cls.lab.daemon("user-service")
        home = cls.daemon.folder / "home"
        unit = (ROOT / "deploy/systemd/omertad.service.in").read_text(encoding="utf-8")
        write(home / ".config/systemd/user/omertad.service", unit.replace("@BINDIR@", str(cls.daemon.folder)))
        write(home / ".config/omertad/omertad.json", cls.daemon.config_file.read_text(encoding="utf-8"))
        cls.lab.user.give(home)
        try:
            cls.manager = UserManager(cls.lab, cls.daemon, cls.addClassCleanup)
        except Missing as reason:
            raise cls.skipTest(cls, str(reason))

    def _adopted(self, lease, pid):
        """Wait for another daemon that enforces for the same lease."""
        wait_for(lambda: self.manager.property("MainPID") not in ("0", str(pid)), LIMIT, "another daemon")
        wait_for(lambda: self.manager.property("ActiveState") == "active", LIMIT, "it serves")
        wait_for(lambda: lease.read()["filter"]["enforcement"] == "enforcing", LIMIT, "it enforces")
        return int(self.manager.property("MainPID"))

    def test_started_upgraded_killed_and_stopped(self):
        self.assertEqual("", self.manager.ask("start", "omertad.service"), self.manager.ask("status", "omertad.service"))
        self.assertEqual(("active", "running"), (self.manager.property("ActiveState"), self.manager.property("SubState")))
        pid = int(self.manager.property("MainPID"))
        self.assertEqual("Serving leases.", self.manager.property("StatusText"))
        self.assertEqual(["2", "1", str(UID)], [process_field(pid, "Seccomp"), process_field(pid, "NoNewPrivs"),
                                                 process_field(pid, "Uid").split()[0]])
        wait_for(self._is_ready, LIMIT, "the daemon is ready")
        lease = self.lab.lease(self.daemon)
        lease.wait_tunnel()
        machines = self.daemon.machines()
        self.assertEqual(1, len(machines))

        self.assertEqual("", self.manager.ask("reload", "omertad.service"))
        second = self._adopted(lease, pid)
        self.assertEqual(machines, self.daemon.machines(), "an upgrade leaves the machine alone")

        os.kill(second, signal.SIGKILL)
        self._adopted(lease, second)
        self.assertEqual(machines, self.daemon.machines(), "a crash leaves the machine alone")
        self.assertEqual("running", lease.read()["state"])

        self.assertEqual("", self.manager.ask("stop", "omertad.service"))
        self.assertEqual("inactive", self.manager.property("ActiveState"))
        wait_for(lambda: not self.daemon.left_over(), LIMIT, "nothing left over")

    def _is_ready(self):
        try:
            return self.daemon.client().request("GET", "/readyz").status == 200
        except OSError:
            return False
