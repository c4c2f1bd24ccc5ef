"""Threads of the daemon that make a call they have no business with: killed, and the VM cut off."""

import http.client
import os
import pathlib
import shutil
import signal
import unittest

from case import wait_for
from lab import CONSUMER
from nat_case import PORT
from test_external import ExternalCase

PLANTED = pathlib.Path(os.environ.get("OMERTAD", "build/host/omertad")).resolve().parent / "plant_call.so"
LINES = ("Seccomp:", "NoNewPrivs:", "Seccomp_filters:")


def thread_lines(pid):
    """What the kernel says of each thread: {thread id: {"Seccomp": 2, ...}}"""
    found = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        lines = pathlib.Path(f"/proc/{pid}/task/{task}/status").read_text(encoding="ascii").splitlines()
        found[int(task)] = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(LINES)}
    return found


class Confine(ExternalCase):
    """A daemon with a library before the C library that plants the calls (native/plant_call.c)."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if "not confined" in cls.daemon.run("doctor", "--config", cls.daemon.config_file).stdout:
            raise unittest.SkipTest("this build does not confine its threads")

    def setUp(self):
        super().setUp()
        library = self.daemon.folder / "plant_call.so"
        shutil.copy(PLANTED, library)
        library.chmod(0o755)
        self.daemon.stop()
        self.daemon.extra_environment["LD_PRELOAD"] = str(library)
        self.addCleanup(self.daemon.extra_environment.pop, "LD_PRELOAD")
        self.daemon.start()

    def pass_one(self, guest, data, consumer=None):
        """A datagram of this guest reaches its consumer."""
        consumer = consumer or self.consumer
        guest.send_udp(data, destination=consumer.getsockname())
        self.assertEqual(data, consumer.recvfrom(2048)[0])

    def other_consumer(self):
        """A consumer for another lease."""
        consumer = self.lab.world.socket()
        self.addCleanup(consumer.close)
        consumer.bind((CONSUMER, PORT + 1))
        consumer.settimeout(10)
        self.lab.rules.consumers.add((CONSUMER, PORT + 1))
        self.addCleanup(self.lab.rules.consumers.discard, (CONSUMER, PORT + 1))
        return consumer

    def test_a_nat_thread_dies_alone_and_its_vm_is_cut_off(self):
        bad_id, bad = self.open()
        good_id, good = self.open(port=PORT + 1)
        consumer = self.other_consumer()
        guests = self.attach(bad), self.attach_other(good)
        self.pass_one(guests[0], b"before")
        self.pass_one(guests[1], b"before", consumer)
        guests[0].send_udp(b"plant-a-call-of-the-nat")
        lease = self.await_state(bad_id, "terminated")
        self.assertEqual("filter_failure", lease["termination"]["reason"])
        with self.assertRaises(OSError):  # the attachment is gone
            guests[0].send_udp(b"after")
        self.consumer.settimeout(0.3)
        with self.assertRaises(TimeoutError):  # and what it sent last went nowhere
            self.consumer.recvfrom(2048)
        self.consumer.settimeout(10)
        self.pass_one(guests[1], b"the other one goes on", consumer)
        self.assertEqual("running", self.client.get(f"/v1/leases/{good_id}")["state"])
        self.assertEqual([], self.client.items(f"/v1/leases/{good_id}/violations"))

    def attach_other(self, lease):
        """A second guest, at a socket of its own."""
        folder = self.guests
        try:
            self.guests = folder / "other"
            self.guests.mkdir(exist_ok=True)
            self.lab.user.give(self.guests)
            return self.attach(lease)
        finally:
            self.guests = folder

    def test_an_http_thread_ends_the_daemon_and_nothing_gets_out(self):
        _, lease = self.open()
        guest = self.attach(lease)
        self.pass_one(guest, b"before")
        with self.assertRaises((OSError, http.client.HTTPException)):
            self.client.request("GET", "/plant-a-call-of-http")
        self.assertEqual(-signal.SIGSYS, self.daemon.wait())
        with self.assertRaises(OSError):
            guest.send_udp(b"after")
        self.daemon.start()  # for those who clean up

    def test_an_http_thread_reaches_no_file_of_others(self):
        if "no Landlock" in self.daemon.run("doctor", "--config", self.daemon.config_file).stdout:
            self.skipTest("this kernel has no Landlock")
        self.assertEqual(404, self.client.request("GET", "/plant-a-look-at-a-file").status)
        self.assertTrue(self.daemon.is_ready())
        self.assertRegex(self.daemon.log(), r"daemon\.started .* landlock=[1-9]")

    def test_every_thread_has_the_filters_that_the_documentation_says(self):
        before = thread_lines(self.daemon.pid)
        self.assertEqual({1}, {lines["NoNewPrivs"] for lines in before.values()})
        self.assertEqual({2}, {lines["Seccomp"] for lines in before.values()})
        filters = [lines["Seccomp_filters"] for lines in before.values()]
        self.assertEqual(1, before[self.daemon.pid]["Seccomp_filters"])  # main(): what is forbidden
        self.assertGreaterEqual(filters.count(2), 6)  # HTTP, its door, streams, journal, time limits
        self.open()
        after = thread_lines(self.daemon.pid)
        nat = set(after) - set(before)
        self.assertEqual([2], [after[task]["Seccomp_filters"] for task in nat])
        task = pathlib.Path(f"/proc/{self.daemon.pid}/task/{nat.pop()}/fd")
        self.assertEqual(3, len(list(task.iterdir())))  # attachment, reports, wake-up

    def test_the_doctor_says_what_is_active(self):
        done = self.daemon.run("doctor", "--config", self.daemon.config_file)
        self.assertRegex(done.stdout, r"NAT threads \d+ system calls, service threads \d+")
        self.assertRegex(done.stdout, r"reach no file, service threads their folders alone \(Landlock|has no Landlock")
        self.assertTrue(wait_for(self.daemon.is_ready, 20, "it still serves"))
        self.assertEqual(f"{CONSUMER}:{PORT}", self.open()[1]["consumer"]["endpoint"])


del ExternalCase  # its own tests are run where it is defined

if __name__ == "__main__":
    unittest.main()
