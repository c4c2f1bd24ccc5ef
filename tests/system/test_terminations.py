"""The first forbidden packet ends the VM. Ten real ones; how fast is printed."""

import pathlib
import shutil
import socket
import statistics
import subprocess

import guest
from case import DaemonCase
from lab import WEB
from seed_tables import OPEN

STOP_LIMIT_MS = 5000  # generous: a machine under load; how fast it was is printed
TERMINATIONS = 5  # of each of two modes


class Terminations(DaemonCase):
    """The first forbidden packet ends the VM. Ten real ones; how fast is printed."""

    settings = OPEN
    latencies = []

    def end_by_violation(self, mode, network):
        """One VM that breaks its promise. Return: (lease, violation)"""
        before = self.lab.oracle.mark()
        lease = self.lease(network={"mode": mode, **network})
        lease.wait_tunnel()
        shell = lease.shell()
        self.addCleanup(shell.close)
        machine = lease.machine()
        shell.run(f"iptables -F OUTPUT; iptables -P OUTPUT ACCEPT; ip route add {WEB}/32 via {guest.GATEWAY} dev eth0")
        self.assertEqual([], lease.violations(), "until now it kept it")
        shell.send(f"while :; do ping -c 1 -W 1 {WEB}; done\n")
        termination = lease.wait_end()
        shell.close()
        self.assertEqual(("policy_violation", "filter"), (termination["reason"], termination["initiated_by"]))
        violation = self.client.get(f"/v1/violations/{termination['violation_id']}")
        self.assertEqual((lease.id, "terminated", guest.FOREIGN, WEB, mode),
                         (violation["lease_id"], violation["verdict"], violation["code"], violation["destination_ip"],
                          violation["mode"]))
        self.assertFalse(pathlib.Path(f"/proc/{machine}").exists(), "the process is gone")
        self.assert_nothing_leaked(before)
        self.assertLess(violation["stop_latency_ms"], STOP_LIMIT_MS)
        self.latencies.append((violation["stop_latency_ms"], violation["detection_latency_us"]))
        return lease, violation

    def check_evidence(self, lease, violation):
        """A pcapng with the frame's headers and a comment that names code and lease."""
        answer = self.client.request("GET", f"/v1/violations/{violation['id']}/evidence")
        self.assertEqual(200, answer.status)
        self.assertEqual(b"\x0a\x0d\x0d\x0a", answer.body[:4])
        self.assertIn(violation["code"].encode(), answer.body)
        self.assertIn(lease.id.encode(), answer.body)
        self.assertIn(socket.inet_aton(guest_ip(lease)) + socket.inet_aton(WEB), answer.body)
        if shutil.which("tshark"):
            file = self.lab.folder / "evidence.pcapng"
            file.write_bytes(answer.body)
            done = subprocess.run(["tshark", "-r", file, "-T", "fields", "-e", "ip.dst", "-e", "ip.proto"],
                                  capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual((0, f"{WEB}\t1"), (done.returncode, done.stdout.strip()), done.stderr)

    def test_conntrack(self):
        for _ in range(TERMINATIONS):
            lease, violation = self.end_by_violation("conntrack", {})
        self.check_evidence(lease, violation)
        self.assert_nothing_left()

    def test_sampled(self):
        for _ in range(TERMINATIONS):
            lease, violation = self.end_by_violation("sampled", {"sampling_rate": 1})
            self.assertEqual(1, violation["sampling_rate"])
        self.check_evidence(lease, violation)
        self.assert_nothing_left()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        if len(cls.latencies) > 1:
            stops = sorted(stop for stop, _ in cls.latencies)
            seen = sorted(detection for _, detection in cls.latencies)
            print(f"terminations: {len(stops)} real VMs, from the frame to the process gone: p50 "
                  f"{statistics.median(stops):.0f} ms, slowest {stops[-1]} ms; to the verdict: p50 "
                  f"{statistics.median(seen):.0f} us, slowest {seen[-1]} us", flush=True)


def guest_ip(lease):
    """The VM's address on its own link."""
    return lease.read()["network"]["guest_ip"]
