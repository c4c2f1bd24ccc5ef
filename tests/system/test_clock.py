"""The wall clock is set, forward and back, while leases run: they end when their time has passed, and not before."""

import datetime
import mmap
import shutil
import struct
import time
import unittest

from test_confine import PLANTED
from test_external import ExternalCase

DAY_S = 86400
TTL_S = 8  # a restart and a second fit in
LATE_S = 10.0  # of a lease's end on a busy machine


class Clock(ExternalCase):
    """A daemon whose wall clock native/shift_clock.c sets."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if "not confined" in cls.daemon.run("doctor", "--config", cls.daemon.config_file).stdout:
            raise unittest.SkipTest("a sanitizer's runtime has to be loaded first")
        cls.daemon.stop()
        library = cls.daemon.folder / "shift_clock.so"
        shutil.copy(PLANTED.with_name(library.name), library)
        library.chmod(0o755)
        path = cls.daemon.folder / "shift"
        path.write_bytes(bytes(8))
        cls.lab.user.give(cls.daemon.folder)
        with open(path, "r+b") as file:
            cls.shift = mmap.mmap(file.fileno(), 8)
        cls.daemon.extra_environment.update(LD_PRELOAD=str(library), SHIFT_CLOCK=str(path))
        cls.daemon.start()

    def setUp(self):
        self.set_clock(0)

    def set_clock(self, seconds):
        """The daemon's wall clock is wrong by so much from here on."""
        struct.pack_into("q", self.shift, 0, seconds)

    def daemon_is_ahead_by(self):
        """Seconds, by the Date header of an answer."""
        said = self.client.request("GET", "/v1/node").headers["Date"]
        there = datetime.datetime.strptime(said, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=datetime.timezone.utc)
        return there.timestamp() - time.time()

    def jump(self, seconds, restart=False):
        """A lease with a time limit lives through the jump, and no longer than its time."""
        began = time.monotonic()
        lease_id, _ = self.open(ttl_s=TTL_S)
        other_id, _ = self.open(port=50000, heartbeat_timeout_s=DAY_S)
        if restart:
            self.daemon.send_signal(9)
            self.daemon.wait()
        self.set_clock(seconds)
        if restart:
            self.daemon.start()
        self.assertAlmostEqual(seconds, self.daemon_is_ahead_by(), delta=5)
        time.sleep(1)
        lease = self.client.get(f"/v1/leases/{lease_id}")
        self.assertEqual("running", lease["state"], lease["termination"])
        lease = self.await_state(lease_id, "terminated")
        took = time.monotonic() - began
        self.assertEqual("lease_expired", lease["termination"]["reason"])
        self.assertGreaterEqual(took, TTL_S - 0.1)
        self.assertLess(took, TTL_S + LATE_S)
        self.assertEqual("running", self.client.get(f"/v1/leases/{other_id}")["state"])
        body = {"mode": "filtered", "allowlist": ["198.51.100.2:50001"]}
        answer = self.client.request("PUT", f"/v1/leases/{other_id}/policy", body, {"If-Match": '"1"'})
        self.assertEqual(200, answer.status, answer.body)
        states = [event["data"]["to"] for event in self.client.items(f"/v1/events?lease_id={lease_id}")
                  if event["type"] == "lease.state_changed"]
        self.assertEqual(["preparing", "starting", "running"], states[:3])  # told in the order in which it came
        self.release(other_id)

    def test_forward_by_a_day(self):
        self.jump(DAY_S)

    def test_back_by_a_year(self):
        self.jump(-365 * DAY_S)

    def test_back_by_a_day_while_no_daemon_runs(self):
        self.jump(-DAY_S, restart=True)

    def test_forward_by_a_year_while_no_daemon_runs(self):
        self.jump(365 * DAY_S, restart=True)


del ExternalCase  # its own tests are run where it is defined

if __name__ == "__main__":
    unittest.main()
