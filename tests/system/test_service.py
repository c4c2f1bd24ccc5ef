"""The daemon under a service manager: it says when it serves, that it lives, and when it ends."""

import contextlib
import os
import signal
import socket

from case import LabCase, wait_for

WATCHDOG_MS = 900
LIMIT = 20.0


class ServiceManager(LabCase):
    """A manager that only listens."""

    def setUp(self):
        self.daemon = self.lab.daemon(self._testMethodName[-20:])
        self.addCleanup(self.daemon.stop)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self._socket.close)
        path = self.daemon.folder / "notify"
        self._socket.bind(str(path))
        os.chmod(path, 0o666)
        self._socket.settimeout(LIMIT)
        self.daemon.extra_environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": str(WATCHDOG_MS * 1000)}

    def _hear(self):
        return dict(line.split("=", 1) for line in self._socket.recv(4096).decode().split("\n"))

    def test_it_hears_that_the_daemon_serves_lives_and_ends(self):
        self.daemon.start(wait=False)
        self.assertEqual("1", self._hear()["READY"])
        self.assertEqual(200, self.daemon.client().request("GET", "/healthz").status)
        for _ in range(3):
            self.assertEqual({"WATCHDOG": "1"}, self._hear())
        self.daemon.send_signal(signal.SIGTERM)
        heard = self._hear()
        while "WATCHDOG" in heard:
            heard = self._hear()
        self.assertEqual("1", heard["STOPPING"])
        self.assertEqual(0, self.daemon.wait())

    def test_a_daemon_that_does_not_answer_gives_no_sign_of_life(self):
        self.daemon.start(wait=False)
        self.assertEqual("1", self._hear()["READY"])
        self.assertEqual({"WATCHDOG": "1"}, self._hear())
        self.daemon.socket.rename(self.daemon.socket.with_suffix(".away"))
        wait_for(lambda: self._unwell() > 0, LIMIT, "the daemon notices")
        self._socket.setblocking(False)
        self.assertEqual([], self._heard()[1:])  # at most one that was sent before
        wait_for(lambda: self._unwell() > 2, LIMIT, "it looks again")
        self.assertEqual([], self._heard())

    def _unwell(self):
        return self.daemon.log().count("event=daemon.unwell")

    def _heard(self):
        """All that has come, without waiting."""
        messages = []
        with contextlib.suppress(BlockingIOError):
            while True:
                messages.append(self._socket.recv(4096))
        return messages
