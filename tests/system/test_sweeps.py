"""The n-th call of a kind fails while a lease is made, released or given another policy, n = 1, 2, 3 ... until none does.

After each: the answer is success or a problem, what was acknowledged is there, nothing is left over, the daemon lives or has
ended for a reason that it logged, and the next request works. native/fail_call.c makes the calls fail; the hypervisors are
the unit tests' fake ones, so that one round takes a fraction of a second.
"""

import contextlib
import errno
import http.client
import mmap
import os
import shutil
import signal
import sqlite3
import struct
import time
import unittest

import fake_machine
from case import LabCase, wait_for
from lab import CONSUMER
from test_confine import PLANTED

# Kinds of calls as native/fail_call.c numbers them, what they fail with, and how many a short run passes over.
KINDS = {
    "allocation": (1, errno.ENOMEM, 29),
    "write": (2, errno.ENOSPC, 3),
    "sync": (3, errno.EIO, 1),
    "socket": (4, errno.EMFILE, 2),
    "open": (5, errno.EMFILE, 2),
    "start": (6, errno.EAGAIN, 1),
}
EVERY = os.environ.get("OMERTAD_SWEEPS") == "every"  # make check-long
SETTLE_S = 15.0
LIBRARY_S = 3.0  # a lease of a fake machine takes a twentieth of a second
SETTLED = {"running", "terminated"}
PORT = 51900


class Orders:
    """The file that tells the daemon's calls when to fail."""

    FORM = struct.Struct("iiii")

    def __init__(self, path):
        path.write_bytes(bytes(self.FORM.size))
        self.path = path
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), self.FORM.size)

    def give(self, kind, left):
        """The call after @left of this kind fails."""
        number, code, _ = KINDS[kind]
        self.FORM.pack_into(self._map, 0, 0, left, code, 0)
        struct.pack_into("i", self._map, 0, number)

    def take_back(self):
        """No call fails any more. Return: whether one has"""
        struct.pack_into("i", self._map, 0, 0)
        return self.FORM.unpack_from(self._map)[1] < 0

    @property
    def was_careless(self):
        """Whether the call was one of libisofs or libseccomp, which do not look at what malloc() returns everywhere:
        they read where nothing is, or go round for ever."""
        return bool(self.FORM.unpack_from(self._map)[3])


class Sweeps(LabCase):
    """One daemon for all sweeps of a test."""

    def setUp(self):
        self.daemon = self.lab.daemon(self._testMethodName, image=False)
        done = self.daemon.run("doctor", "--config", self.daemon.config_file)
        if "not confined" in done.stdout:
            self.skipTest("a sanitizer's runtime has to be loaded first")
        self.hypervisor = fake_machine.install(self.daemon.folder)
        fake_machine.make_image(self.daemon.images / "fake")
        library = self.daemon.folder / "fail_call.so"
        shutil.copy(PLANTED.with_name(library.name), library)
        library.chmod(0o755)
        self.orders = Orders(self.daemon.folder / "orders")
        self.daemon.configure(fake_machine.settings(self.hypervisor))
        self.daemon.extra_environment.update(LD_PRELOAD=str(library), FAIL_CALL_ORDERS=str(self.orders.path))
        self.daemon.start()
        self.addCleanup(self.daemon.stop)
        self.client = self.daemon.client()
        self.ends = self.hangs = 0
        self.idle = None  # descriptors of the daemon without a lease
        self.release(self.create().json["id"])
        self.settle_down()
        self.idle = self.daemon.descriptors()

    # ---- one request each

    def ask(self, *words):
        """A request. Return: Answer, None when the connection was closed without one"""
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.client.request(*words)
        return None

    def create(self, attachment="qemu"):
        """Ask for a lease. Return: as ask()"""
        if attachment == "external":
            body = fake_machine.request(None, f"{CONSUMER}:{PORT}", attachment="external", ssh=None,
                                        resources={"vcpus": 1, "memory_mib": 1})
        else:
            body = fake_machine.request("fake", f"{CONSUMER}:{PORT}")
        return self.ask("POST", "/v1/leases", body)

    def release(self, lease_id):
        """Release a lease, with nothing that fails, and wait for its end."""
        self.assertIn(self.client.request("DELETE", f"/v1/leases/{lease_id}").status, (200, 202, 204))
        wait_for(lambda: self.states()[lease_id] == "terminated", SETTLE_S, f"{lease_id} has ended")

    # ---- what is there

    def states(self):
        """State of each lease as its row says, without a request that would call anything."""
        with contextlib.closing(sqlite3.connect(self.daemon.data / "omertad.db", timeout=5)) as store:
            return dict(store.execute("SELECT id, state FROM leases"))

    def await_settled(self, limit=SETTLE_S):
        """No lease is on its way, or the daemon has ended."""
        wait_for(lambda: not self.daemon.running or set(self.states().values()) <= SETTLED, limit, "all has settled")

    def await_outcome(self):
        """As above; a daemon whose library goes round for ever is killed, as an operator would."""
        try:
            self.await_settled(LIBRARY_S)
        except TimeoutError:
            if not self.orders.was_careless:
                self.await_settled()
                return
            self.hangs += 1
            self.daemon.send_signal(signal.SIGKILL)
            wait_for(lambda: not self.daemon.running, SETTLE_S, "it is gone")

    def settle_down(self):
        """Nothing is left over of leases that have all ended."""
        wait_for(lambda: not fake_machine.processes(self.lab, self.hypervisor), SETTLE_S, "no process")
        wait_for(lambda: not self.daemon.left_over(), SETTLE_S, "no file")
        self.assertEqual([], list(self.daemon.data.rglob("*.disk")))
        if self.idle is not None:
            wait_for(lambda: self.daemon.descriptors() <= self.idle, SETTLE_S,
                     f"{self.daemon.descriptors()} descriptors return to {self.idle}")

    def revive(self):
        """A daemon that has ended did so in order or by its own decision; the next one starts."""
        if self.ask("GET", "/healthz") is None:
            wait_for(lambda: not self.daemon.running, SETTLE_S, "a daemon that does not answer has ended")
            code = self.daemon.wait()
            self.ends += 1
            self.daemon.start()
            # abort() in a thread that may not signal is SIGSYS.
            allowed = {0, 1, -signal.SIGABRT, -signal.SIGSYS}
            if self.orders.was_careless:
                allowed |= {-signal.SIGSEGV, -signal.SIGKILL}
            self.assertIn(code, allowed, self.daemon.log()[-1500:])

    def end_all(self):
        """Release what has not ended, by requests that work."""
        self.await_settled()
        for lease_id, state in self.states().items():
            if state != "terminated":
                self.release(lease_id)
        self.settle_down()
        self.assertEqual(0, self.client.get("/v1/node")["capacity"]["used"]["leases"])

    def expect_problem(self, answer):
        """What is no success is a problem that blames the provider, or a closed connection."""
        if answer is not None and answer.status >= 400:
            self.assertGreaterEqual(answer.status, 500, answer.body)
            self.assertEqual("application/problem+json", answer.headers["Content-Type"])

    # ---- sweeps

    def sweep(self, kind, prepare, act, check):
        """@act(prepared) with the n-th call failing, then @check(prepared, answer). Return: how many failed"""
        number = failed = self.ends = self.hangs = 0
        began = time.monotonic()
        while True:
            with self.subTest(kind, n=number + 1):
                prepared = prepare()
                self.orders.give(kind, number)
                answer = act(prepared)
                self.await_outcome()
                fired = self.orders.take_back()
                self.revive()
                self.await_settled()  # a daemon that has just begun may still be adopting
                self.expect_problem(answer)
                check(prepared, answer)
                self.end_all()
            if not fired:
                break
            failed += 1
            number += 1 if EVERY else KINDS[kind][2]
        print(f"     {kind}: {failed} failures of {number} calls, {self.ends} ends of the daemon"
              f"{f' ({self.hangs} hung in a library)' if self.hangs else ''}, "
              f"{time.monotonic() - began:.1f} s", flush=True)
        return failed

    def sweep_all(self, prepare, act, check, least):
        """Sweep each kind that this has calls of: @least of them by kind."""
        for kind in KINDS:
            self.assertGreaterEqual(self.sweep(kind, prepare, act, check), least.get(kind, 0), kind)
        self.assertEqual(0, self.daemon.stop())
        with contextlib.closing(sqlite3.connect(self.daemon.data / "omertad.db")) as store:
            self.assertEqual([("ok",)], store.execute("PRAGMA integrity_check").fetchall())
            self.assertEqual([], store.execute("PRAGMA foreign_key_check").fetchall())

    def check_created(self, _, answer):
        """An acknowledged lease is there and runs, or ended with a reason; no machine runs that nobody asked for."""
        if answer is not None and answer.status == 202:
            lease = self.client.get(f"/v1/leases/{answer.json['id']}")
            self.assertIn(lease["state"], SETTLED)
            if lease["state"] == "terminated":
                self.assertTrue(lease["termination"]["detail"])
        running = sorted(lease_id for lease_id, state in self.states().items() if state == "running")
        self.assertEqual(running, sorted(fake_machine.processes(self.lab, self.hypervisor).values()))

    def test_a_lease_is_made(self):
        self.sweep_all(lambda: None, lambda _: self.create(), self.check_created,
                       {"allocation": 5, "write": 3, "sync": 1, "socket": 3, "open": 3, "start": 1})

    def running_lease(self, attachment):
        """Id of a lease that runs."""
        lease_id = self.create(attachment).json["id"]
        wait_for(lambda: self.states()[lease_id] == "running", SETTLE_S, "it runs")
        return lease_id

    def await_end(self, lease_id, answer):
        """A release that was acknowledged ends the lease."""
        if answer is not None and answer.status < 300:
            wait_for(lambda: self.states()[lease_id] == "terminated", SETTLE_S, "an acknowledged release")

    def test_a_lease_is_released(self):
        def act(lease_id):
            answer = self.ask("DELETE", f"/v1/leases/{lease_id}")
            if answer is not None and answer.status < 300:
                with contextlib.suppress(TimeoutError):
                    wait_for(lambda: not self.daemon.running or self.states()[lease_id] == "terminated", 2, "its end")
            return answer
        self.sweep_all(lambda: self.running_lease("qemu"), act, self.await_end,
                       {"allocation": 3, "write": 2, "sync": 1})

    def test_a_policy_is_replaced(self):
        body = {"mode": "filtered", "allowlist": [f"{CONSUMER}:{PORT + 1}"]}

        moved = f"{CONSUMER}:{PORT + 1}"

        def act(lease_id):
            self.ends_before = self.ends
            return self.ask("PUT", f"/v1/leases/{lease_id}/policy", body, {"If-Match": '"1"'})

        def whole(lease_id):
            """The policy once row and filter agree: one in force that the store did not take is written again. What was
            proposed to a daemon that has ended is gone; the next one enforces what was in force, under the next number."""
            policy = self.client.get(f"/v1/leases/{lease_id}/policy")
            second = policy["desired_generation"] == 2
            agree = policy["desired_generation"] == policy["observed_generation"]
            whose = {second, False} if self.ends > self.ends_before else {second}
            return policy if agree and (policy["consumer_endpoint"] == moved) in whose else None

        def check(lease_id, answer):
            acknowledged = answer is not None and answer.status == 200
            try:
                policy = wait_for(lambda: whole(lease_id), SETTLE_S, "one policy, all of it")
            except TimeoutError as late:
                told = self.client.get(f"/v1/leases/{lease_id}")
                raise AssertionError(f"{answer and answer.body}\n{told}\n{self.daemon.log()[-4000:]}") from late
            self.assertIn(policy["desired_generation"], (2,) if acknowledged else (1, 2))
            self.assertTrue(policy["consumer_endpoint"] == moved or not acknowledged)

        self.sweep_all(lambda: self.running_lease("external"), act, check, {"allocation": 3, "write": 1, "sync": 1})


if __name__ == "__main__":
    unittest.main()
