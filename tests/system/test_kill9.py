"""The daemon is killed at random instants under lease traffic: nothing acknowledged is lost, nothing is left over.

The hypervisors are the unit tests' fake ones, so that one round takes a fraction of a second; what a real VM does when its
daemon dies is in test_restart.py.
"""

import http.client
import os
import random
import signal
import sqlite3
import threading
import time
import uuid

import fake_machine
from case import LabCase, wait_for
from lab import CONSUMER

KILLS = int(os.environ.get("OMERTAD_KILLS", "50"))  # make check-long: 200
SEED = int(os.environ.get("OMERTAD_KILL_SEED", "9"))
LIVING_MAX = 5      # leases kept from one round to the next; the rest is released
LONGEST_S = 0.25    # from the start of the traffic to the kill
RESTART_S = 2.0
SETTLE_S = 20.0
SETTLED = {"running", "terminated"}


class Traffic:
    """An orchestrator that creates and releases leases until the daemon is gone, and knows what was acknowledged."""

    def __init__(self, daemon, body, dice):
        self._daemon, self._body, self._dice = daemon, body, dice
        self.created, self.released = [], set()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        """Begin. Return: self"""
        self._thread.start()
        return self

    def join(self):
        """Wait for the end that the daemon's end brings."""
        self._thread.join(SETTLE_S)

    def _run(self):
        client = self._daemon.client()
        try:
            while True:
                answer = client.request("POST", "/v1/leases", self._body(), {"Idempotency-Key": str(uuid.uuid4())})
                if answer.status == 202:
                    self.created.append(answer.json["id"])
                elif answer.status not in (503, 507):
                    raise AssertionError(f"POST: {answer.status} {answer.body[:300]!r}")
                if self.created and self._dice.random() < 0.5:
                    chosen = self._dice.choice(self.created)
                    if client.request("DELETE", f"/v1/leases/{chosen}").status in (200, 202):
                        self.released.add(chosen)
        except (OSError, http.client.HTTPException):
            pass  # killed


class KillNine(LabCase):
    """One daemon, killed again and again."""

    @classmethod
    def setUpClass(cls):
        cls.daemon = cls.lab.daemon("killnine", image=False)
        cls.hypervisor = fake_machine.install(cls.daemon.folder)
        fake_machine.make_image(cls.daemon.images / "fake")
        cls.daemon.configure(fake_machine.settings(cls.hypervisor))

    @classmethod
    def tearDownClass(cls):
        cls.daemon.stop()

    @staticmethod
    def body():
        """A request for a lease with a consumer of its own."""
        return fake_machine.request("fake", f"{CONSUMER}:51900")

    def processes(self):
        """Lease id of each of this installation's hypervisors, by pid."""
        return fake_machine.processes(self.lab, self.hypervisor)

    def kill_under_traffic(self, dice):
        """One round. Return: (ids acknowledged, ids whose release was acknowledged)"""
        traffic = Traffic(self.daemon, self.body, dice).start()
        time.sleep(dice.uniform(0, LONGEST_S))
        self.daemon.send_signal(signal.SIGKILL)
        self.assertEqual(-signal.SIGKILL, self.daemon.wait())
        traffic.join()
        return traffic.created, traffic.released

    def restart(self):
        """Start the daemon. Return: seconds until it was ready"""
        begin = time.monotonic()
        self.daemon.start()
        return time.monotonic() - begin

    def settled(self, ids):
        """(The leases,) once none of them is on its way, None before."""
        leases = {lease_id: self.daemon.client().get(f"/v1/leases/{lease_id}") for lease_id in ids}
        return (leases,) if all(lease["state"] in SETTLED for lease in leases.values()) else None

    def check(self, leases):
        """Processes and files are those of the leases that run, no more and no less."""
        running = sorted(lease_id for lease_id, lease in leases.items() if lease["state"] == "running")
        self.assertEqual(running, sorted(self.processes().values()))
        self.assertEqual(running, sorted(path.name for path in (self.daemon.runtime / "machines").iterdir()))
        self.assertEqual([], [path.name for path in self.daemon.data.rglob("*.disk")])

    def thin_out(self, leases):
        """Release all but the newest: a fake hypervisor lives for a minute."""
        running = sorted(lease_id for lease_id, lease in leases.items() if lease["state"] == "running")
        kept = running[-LIVING_MAX:]
        for lease_id in running[:-LIVING_MAX]:
            self.daemon.client().request("DELETE", f"/v1/leases/{lease_id}")
        wait_for(lambda: sorted(self.processes().values()) == sorted(kept), SETTLE_S, "the released ones are gone")
        return kept

    def test_no_instant_is_a_bad_one(self):
        dice = random.Random(SEED)
        kept, acknowledged, adopted, slowest = [], set(), 0, 0.0
        self.daemon.start()
        for _ in range(KILLS):
            created, released = self.kill_under_traffic(dice)
            acknowledged.update(created)
            slowest = max(slowest, self.restart())
            mine = [*kept, *created]
            leases, = wait_for(lambda: self.settled(mine), SETTLE_S, "every lease has run on or ended")
            for lease_id in released:
                self.assertEqual("terminated", leases[lease_id]["state"], "its release was acknowledged")
            adopted += sum(lease["state"] == "running" for lease in leases.values())
            strangers = [lease for lease in self.daemon.client().items("/v1/leases?state=running")
                         if lease["id"] not in leases]
            for lease in strangers:  # asked for, and killed before the answer
                leases[lease["id"]] = lease
            self.check(leases)
            kept = self.thin_out(leases)
        self.assertEqual(0, self.daemon.stop())
        self.assertEqual({}, self.processes())
        self.assertGreater(adopted, KILLS, "most machines live through a kill")
        self.check_database(acknowledged)
        print(f"     {KILLS} kills, {len(acknowledged)} leases acknowledged, {adopted} adoptions, "
              f"slowest restart {slowest:.2f} s", flush=True)
        self.assertLess(slowest, RESTART_S * 5)  # 2 s on a machine that is not busy with something else

    def check_database(self, acknowledged):
        """Every acknowledged lease has a row that ended, and the file is whole."""
        with sqlite3.connect(self.daemon.data / "omertad.db") as database:
            self.assertEqual([("ok",)], database.execute("PRAGMA integrity_check").fetchall())
            self.assertEqual([], database.execute("PRAGMA foreign_key_check").fetchall())
            rows = dict(database.execute("SELECT id, state FROM leases"))
        self.assertLessEqual(acknowledged, set(rows))
        self.assertEqual({"terminated"}, set(rows.values()))
