#!/usr/bin/env python3
"""Leases come and go under traffic and faults for a while, and everything the daemon holds returns to what it was:
soak.py [--seconds N] [--seed N]

The first part has one daemon, whose memory must not grow with the leases it has had; the second one kills it and puts others
in its place. Between rounds all leases end and the daemon is measured. A table, and exit code 1 on a leak.
"""

import argparse
import collections
import contextlib
import pathlib
import random
import shutil
import signal
import sqlite3
import statistics
import sys
import time
import traceback
from typing import NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import fake_machine  # noqa: E402
import lab as laboratory  # noqa: E402
from daemon import process_arguments, process_field, wait_for  # noqa: E402
from soak_load import GONE, PATIENCE_S, Crew, Echo, Reader, Tenant  # noqa: E402

TENANTS, READERS = 4, 2
CALM_SHARE = 0.6           # of the time, with one daemon
ROUNDS = 10                # of the calm part, if each has its shortest time
ROUND_S = 3.0              # shortest
VMS_FROM_S = 60            # a run as long as that boots real machines too
SETTLE_S = 60.0
GROWTH_KIB_PER_LEASE = 1.0  # of resident memory: an object that is lost with each lease is as large
GROWTH_NOISE_KIB = 8192    # the page caches of the database's connections, 2 MiB each, fill up as the log grows


class Figures(NamedTuple):
    """What the daemon holds while it has no lease."""

    leases: int       # that have ended so far
    descriptors: int
    threads: int
    rss_kib: int
    files: int
    processes: int    # hypervisors
    rows: int         # of leases that have not ended, and of the ended ones without their peer or termination

    HEADINGS = ("leases", "descriptors", "threads", "rss KiB", "files", "processes", "open rows")


EXACT = ("descriptors", "threads", "files", "processes", "rows")


class Soak:
    """One run in a lab."""

    def __init__(self, lab, seconds, seed=1):
        self.lab, self.seconds, self.seed = lab, seconds, seed
        self.dice = random.Random(seed)
        self.problems, self.faults = [], collections.Counter()
        self.calm, self.storm = [], []
        self.stormy = False
        self.vms = 0
        self.daemon = lab.daemon("soak", image=seconds >= VMS_FROM_S)
        self.fake = fake_machine.install(self.daemon.folder)
        fake_machine.make_image(self.daemon.images / "fake")
        self.guests = self.daemon.folder / "guests"
        self.guests.mkdir()
        self.daemon.configure({
            "hypervisor": {"qemu": str(self._write_hypervisor()), "kvmDevice": "/nonexistent"},
            "capacity": {"leases": 32, "vcpus": 32, "memoryMib": 16384, "diskMib": 4096},
            "tunnel": {"timeoutS": 0}, "network": {"allowModeOverride": True}})

    def _write_hypervisor(self):
        """The fake one for machines that name it on their command line, the real one for the others."""
        path = self.daemon.folder / "hypervisor"
        real = shutil.which("qemu-system-x86_64")
        path.write_text(f'#!/bin/sh\ncase "$*" in\n*fake=*) exec {self.fake} "$@" ;;\n*) exec {real} "$@" ;;\nesac\n',
                        encoding="ascii")
        path.chmod(0o755)
        return path

    # ---- one run

    def run(self):
        """All of it. Return: what is wrong, as sentences; [] if nothing is"""
        began = time.monotonic()
        before = self.lab.oracle.mark()
        self.daemon.start()
        self.echo, self.crew = Echo(self.lab), Crew()
        try:
            self._hire()
            self._rounds(began)
            self._storm(began)
        except Exception as error:  # what was measured so far is worth to be seen
            self.problems.append(f"{type(error).__name__}: {error}")
            traceback.print_exc()
        finally:
            self.crew.close()
            self.echo.close()
            if self.daemon.running and (code := self.daemon.stop(limit=PATIENCE_S)) != 0:
                self.problems.append(f"the daemon ended with {code}")
        self.problems += self.crew.problems[:20]
        self.problems += [f"leaked: {leak}" for leak in self.lab.oracle.leaks(before)]
        self.problems += [f"left over: {what}" for what in self.daemon.left_over()]
        self._judge()
        self._print(time.monotonic() - began)
        if self.problems:
            print("the daemon's last lines:\n" + "\n".join(self.daemon.log().splitlines()[-25:]), flush=True)
        return self.problems

    def _hire(self):
        self.tenants = [Tenant(self.daemon, self.guests, number, self.seed, lambda: self.stormy)
                        for number in range(TENANTS)]
        self.readers = [Reader(self.daemon, number, self.seed) for number in range(READERS)]
        for number, tenant in enumerate(self.tenants):
            self.crew.add(f"tenant {number}", tenant.work)
        for number, reader in enumerate(self.readers):
            self.crew.add(f"reader {number}", reader.work)
        if self.seconds >= VMS_FROM_S:
            self.crew.add("vm", self._boot)

    def _boot(self):
        """One real VM: it boots, its tunnel comes up and carries a ping, it ends."""
        try:
            lease = self.lab.lease(self.daemon)
            lease.wait_tunnel(2 * PATIENCE_S)
            if lease.consumer.pings(lease.vm_ip, limit=PATIENCE_S):
                self.vms += 1
            else:
                self.crew.problems.append(f"{lease.path}: no answer through the tunnel")
            lease.release()
            lease.wait_end(PATIENCE_S)
        except GONE:
            time.sleep(0.2)
        except AssertionError:  # refused while the machine is drained
            if not self.stormy:
                raise
            time.sleep(0.2)

    def _rounds(self, began):
        """The calm part: one daemon, measured whenever it has no lease. The first round makes what is made once."""
        calm_s = self.seconds * CALM_SHARE
        length = max(ROUND_S, calm_s / ROUNDS)
        self.calm.append(self._round(length))
        while time.monotonic() - began < calm_s or len(self.calm) < 2:
            self.calm.append(self._round(length))

    def _round(self, length):
        self.crew.go()
        until = time.monotonic() + length
        while time.monotonic() < until:
            self.daemon.client().request("GET", "/metrics")
            time.sleep(0.5)
        return self._measure()

    def _storm(self, began):
        """The other part: daemons are killed, and take each other's place, under the same load."""
        self.stormy = True
        self.crew.go()
        kinds = [self._kill, self._hand_over, self._drain]
        turn = 0
        while time.monotonic() - began < self.seconds or turn < len(kinds):
            time.sleep(self.dice.uniform(0.3, ROUND_S))
            kinds[turn % len(kinds)]()
            turn += 1
        self.storm.append(self._measure())

    def _kill(self):
        self.daemon.send_signal(signal.SIGKILL)
        self.daemon.wait()
        time.sleep(self.dice.uniform(0, 0.3))
        self.daemon.start()
        self.faults["kill -9"] += 1

    def _hand_over(self):
        old = self.daemon.detach()
        self.daemon.start(wait=False, extra=("--handover",))
        if (code := old.wait(PATIENCE_S)) != 0:
            self.problems.append(f"a daemon that was asked to leave ended with {code}")
        wait_for(self.daemon.is_ready, PATIENCE_S, "the next daemon is ready")
        self.faults["handover"] += 1

    def _drain(self):
        for draining in (True, False):
            answer = self.daemon.client().request("PUT", "/v1/node/drain", {"draining": draining}, {"If-Match": "*"})
            if answer.status != 200:
                self.problems.append(f"drain: {answer.status} {answer.body[:300]!r}")
            time.sleep(0.3)
        self.faults["drain"] += 1

    # ---- measuring

    def _measure(self):
        """End every lease, and look at what the daemon holds then. Return: Figures"""
        self.crew.pause(2 * PATIENCE_S)
        client = self.daemon.client()
        for state in ("pending", "preparing", "starting", "running", "recovering"):
            for lease in client.items(f"/v1/leases?state={state}&limit=200"):
                client.request("DELETE", f"/v1/leases/{lease['id']}")
        with contextlib.suppress(TimeoutError):  # the figures tell what was not given back
            wait_for(lambda: client.get("/v1/node")["capacity"]["used"]["leases"] == 0, SETTLE_S, "every lease has ended")
            wait_for(lambda: not self.daemon.left_over(), SETTLE_S, "nothing is left of a machine")
        if self.calm:  # connections that were hung up are seen a little later
            first = self.calm[0]
            with contextlib.suppress(TimeoutError):
                wait_for(lambda: self._figures().descriptors <= first.descriptors, 10, "as many descriptors", every=0.1)
        else:
            time.sleep(2)
        return self._figures()

    def _figures(self):
        pid = self.daemon.pid
        files = [path for folder in (self.daemon.data, self.daemon.runtime) for path in folder.rglob("*")]
        return Figures(self._ended(), self.daemon.descriptors(), int(process_field(pid, "Threads")),
                       self.daemon.resident_kib(), len(files), len(self._hypervisors()), self._open_rows())

    def _ended(self):
        return sum(sum(tenant.ends.values()) for tenant in self.tenants) + self.vms

    def _hypervisors(self):
        return [pid for pid, _ in self.lab.prov.processes()
                if (process_arguments(pid) or [""])[0] == str(self.fake)] + self.daemon.machines()

    def _open_rows(self):
        with contextlib.closing(sqlite3.connect(self.daemon.data / "omertad.db", timeout=10)) as database:
            (rows,) = database.execute(
                "SELECT count(*) FROM leases WHERE state <> 'terminated'"
                " OR NOT EXISTS (SELECT 1 FROM terminations WHERE lease_id = leases.id)"
                " OR NOT EXISTS (SELECT 1 FROM peers WHERE lease_id = leases.id)").fetchone()
        return rows

    # ---- the result

    def growth(self):
        """Resident memory over leases in the calm part. Return: (KiB a lease, KiB in all) along the fitted line"""
        points = self.calm[1:]
        if len(points) < 3 or points[0].leases == points[-1].leases:
            return 0.0, 0.0
        slope = statistics.linear_regression([point.leases for point in points], [point.rss_kib for point in points]).slope
        return slope, slope * (points[-1].leases - points[0].leases)

    def _judge(self):
        if not self.calm:
            return
        first, last = self.calm[0], self.storm[-1] if self.storm else self.calm[-1]
        for name in EXACT:
            for figures in (*self.calm[1:], last):
                if getattr(figures, name) > getattr(first, name):
                    self.problems.append(f"{name}: {getattr(first, name)} at first, {getattr(figures, name)} after "
                                         f"{figures.leases} leases")
                    break
        if first.rows or first.processes:
            self.problems.append(f"{first.rows} open rows and {first.processes} processes after the first round")
        slope, total = self.growth()
        if slope > GROWTH_KIB_PER_LEASE and total > GROWTH_NOISE_KIB:
            self.problems.append(f"memory: {slope:.2f} KiB more with each lease, {total:.0f} KiB in all")

    def _print(self, took):
        def line(name, cells):
            print(f"  {name:9}" + "".join(f"{cell:>12}" for cell in cells))
        print(f"soak: {took:.0f} s, seed {self.seed}")
        line("", Figures.HEADINGS)
        for number, figures in enumerate(self.calm):
            line(f"round {number}", figures)
        for figures in self.storm:
            line("storm", figures)
        slope, total = self.growth()
        ends = sum((tenant.ends for tenant in self.tenants), collections.Counter())
        print(f"  memory     {slope:+.3f} KiB a lease ({total:+.0f} KiB) in the calm part")
        print("  ends       " + ", ".join(f"{count} {reason}" for reason, count in ends.most_common()))
        print("  faults     " + ", ".join(f"{count} {kind}" for kind, count in self.faults.items()))
        print(f"  load       {sum(tenant.datagrams for tenant in self.tenants)} datagrams there and back, "
              f"{sum(tenant.policies for tenant in self.tenants)} policies changed, "
              f"{sum(reader.events for reader in self.readers)} events read, {self.vms} real VMs, "
              f"{sum(tenant.refused for tenant in self.tenants)} requests refused")
        for problem in self.problems:
            print(f"  WRONG      {problem}")
        print(f"soak: {'FAILED' if self.problems else 'nothing lost'}", flush=True)


def main():
    """Run what the command line asks for. Return: exit code"""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with laboratory.Lab() as lab:
        return 1 if Soak(lab, options.seconds, options.seed).run() else 0


if __name__ == "__main__":
    sys.exit(laboratory.run(main))
