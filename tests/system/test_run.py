"""`omertad run`: a lease as a foreground process, as schedulers start and end it."""

import contextlib
import itertools
import json
import os
import pty
import signal
import subprocess
import time

import guest
from case import DaemonCase, wait_for
from lab import CONSUMER, INTERNET

LIMIT = 60.0
PORTS = itertools.count(52000)  # no two leases have the same consumer


class Run:
    """One `omertad run`, its output as it comes."""

    def __init__(self, daemon, namespace, request, *options, stdout=subprocess.PIPE):
        file = daemon.folder / f"lease-{time.monotonic_ns()}.json"
        file.write_text(request if isinstance(request, str) else json.dumps(request), encoding="ascii")
        file.chmod(0o644)
        # Not through the user's wrapper that dies with us: it must get the signals itself.
        self.process = namespace.start(*daemon.command("run", "--config", daemon.config_file, *options, file),
                                       cwd=daemon.folder, env=daemon.environment, stdout=stdout,
                                       stderr=subprocess.PIPE, text=True)

    def lines(self):
        """The JSON lines until the end."""
        return [json.loads(line) for line in self.process.stdout]

    def until(self, *types):
        """Read lines up to the first of these types. Return: that line"""
        for line in self.process.stdout:
            value = json.loads(line)
            if value["type"] in types:
                return value
        raise AssertionError(f"no {types}: {self.process.stderr.read()}")

    def end(self, limit=LIMIT):
        """Wait for the end. Return: (exit code, the last lines, standard error)"""
        lines = self.lines() if self.process.stdout else []
        errors = self.process.stderr.read()
        code = self.process.wait(limit)
        self.close()
        return code, lines, errors

    def close(self):
        """End it if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()


class RunExternal(DaemonCase):
    """Leases whose VM somebody else runs: the command is the same, and nothing has to boot."""

    settings = {"capacity": {"leases": 2}}

    def request(self, **changes):
        """What the file says."""
        body = {"attachment": "external", "resources": {"vcpus": 1, "memory_mib": 1, "disk_mib": 0},
                "consumer": {"public_key": self.lab.consumer().public_key, "endpoint": f"{CONSUMER}:{next(PORTS)}",
                             "tunnel_ip": "10.99.0.1"}, "vm": {"tunnel_ip": "10.99.0.2"}}
        body.update(changes)
        return body

    def start(self, request=None, *options, **keywords):
        """A run, ended with the test."""
        run = Run(self.daemon, self.lab.prov, self.request() if request is None else request, *options, **keywords)
        self.addCleanup(run.close)
        return run

    def termination(self, lease_id):
        """How a lease ended."""
        ended = wait_for(lambda: self.client.get(f"/v1/leases/{lease_id}")["termination"], LIMIT, "the lease's end")
        return ended["reason"]

    def test_a_signal_releases_and_every_event_is_a_line(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            run = self.start()
            lease = run.until("run.leased")["lease"]
            self.assertEqual("running", run.until("filter.armed", "lease.state_changed") and
                             wait_for(lambda: self.client.get(f"/v1/leases/{lease['id']}")["state"] == "running"
                                      and "running", LIMIT, "it runs"))
            run.process.send_signal(number)
            run.process.send_signal(signal.SIGTERM)  # a scheduler's and its script's
            code, lines, errors = run.end()
            self.assertEqual((0, ""), (code, errors))
            self.assertEqual({"type": "run.ended", "reason": "released", "detail": None, "exit_code": 0}, lines[-1])
            self.assertIn("lease.terminated", [line["type"] for line in lines])
            self.assertEqual("released", self.termination(lease["id"]))

    def test_an_end_of_time_is_4(self):
        code, lines, _ = self.start(self.request(ttl_s=1)).end()
        self.assertEqual((4, "lease_expired"), (code, lines[-1]["reason"]))

    def test_heartbeats_keep_it_and_a_killed_run_loses_it(self):
        run = self.start(self.request(heartbeat_timeout_s=3))
        lease = run.until("run.leased")["lease"]
        self.assertEqual(3, lease["heartbeat_timeout_s"])
        time.sleep(5)
        self.assertEqual("running", self.client.get(f"/v1/leases/{lease['id']}")["state"])
        run.process.kill()
        self.assertEqual("heartbeat_lost", self.termination(lease["id"]))

    def test_a_heartbeat_is_asked_for_when_the_file_does_not(self):
        run = self.start()
        self.assertEqual(30, run.until("run.leased")["lease"]["heartbeat_timeout_s"])
        run.process.send_signal(signal.SIGTERM)
        self.assertEqual(0, run.end()[0])

    def test_a_release_by_somebody_else_is_0(self):
        run = self.start()
        lease = run.until("run.leased")["lease"]
        self.client.request("DELETE", f"/v1/leases/{lease['id']}")
        code, lines, _ = run.end()
        self.assertEqual((0, "released"), (code, lines[-1]["reason"]))

    def test_no_room_is_10_and_names_the_problem(self):
        runs = [self.start() for _ in range(2)]
        for run in runs:
            run.until("run.leased")
        code, _, errors = self.start().end()
        self.assertEqual(10, code, errors)
        self.assertRegex(errors, r"^omertad: the lease is refused \(507 ")
        for run in runs:
            run.process.send_signal(signal.SIGTERM)
            self.assertEqual(0, run.end()[0])

    def test_a_refusal_is_9_and_names_the_field(self):
        code, _, errors = self.start(self.request(ttl_s=-1)).end()
        self.assertEqual(9, code)
        self.assertIn("/ttl_s", errors)
        self.assertEqual(1, errors.count("\n"))

    def test_a_file_that_is_none_is_2(self):
        for text in ("", "[]", '{"a": 1, "a": 2}', "{", "null"):
            code, _, errors = self.start(text).end()
            self.assertEqual(2, code, text)
            self.assertEqual(1, errors.count("\n"), errors)
        self.assertEqual(2, self.daemon.run("run", "/nowhere/lease.json").returncode)
        self.assertEqual(2, self.daemon.run("run").returncode)

    def test_a_terminal_gets_lines_and_a_progress_line(self):
        ours, theirs = pty.openpty()
        run = self.start(None, stdout=theirs)
        os.close(theirs)
        text = b""
        until = time.monotonic() + LIMIT
        while b"\r\x1b[K[0:" not in text or b"running" not in text:
            self.assertLess(time.monotonic(), until, text)
            text += os.read(ours, 4096)
        self.assertIn(b"leased ", text)
        run.process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # EIO is a terminal's end
            while piece := os.read(ours, 4096):
                text += piece
        self.assertEqual(0, run.process.wait(LIMIT))
        self.assertIn(b"ended: released", text)
        self.assertNotIn(b"{", text)
        os.close(ours)


class RunWithoutDaemon(DaemonCase):
    """Daemons that are not there, or go."""

    start = RunExternal.start
    request = RunExternal.request

    def test_the_daemon_s_end_is_8_and_its_absence_11(self):
        run = self.start(self.request(heartbeat_timeout_s=3))
        run.until("run.leased")
        self.daemon.stop(signal.SIGTERM)
        code, lines, _ = run.end()
        self.assertEqual(8, code)
        self.assertIn(lines[-1]["reason"], ("provider_shutdown", "daemon_lost"))  # whether the last event came through
        code, _, errors = self.start().end()
        self.assertEqual(11, code)
        self.assertRegex(errors, r"^omertad: No daemon listens at /\S+/omertad.sock: .*\n$")
        self.daemon.start()


    def test_an_upgrade_of_the_daemon_is_not_the_lease_s_end(self):
        run = self.start(self.request(heartbeat_timeout_s=20))
        lease = run.until("run.leased")["lease"]
        wait_for(lambda: self.client.get(f"/v1/leases/{lease['id']}")["state"] == "running", LIMIT, "it runs")
        self.daemon.stop(signal.SIGUSR2)
        self.daemon.start()
        wait_for(lambda: self.client.get(f"/v1/leases/{lease['id']}")["state"] == "running", LIMIT, "it runs again")
        self.assertIsNone(run.process.poll())
        run.process.send_signal(signal.SIGTERM)
        code, lines, _ = run.end()
        self.assertEqual((0, "released"), (code, lines[-1]["reason"]))
        sequences = [line["sequence"] for line in lines if "sequence" in line]
        self.assertEqual(sorted(set(sequences)), sequences, "each event once, over both streams")


class RunMachine(DaemonCase):
    """Real VMs."""

    def start(self, **changes):
        """A run with a VM whose tunnel is up. Return: (run, lease)"""
        run = Run(self.daemon, self.lab.prov, self.lab.request(self.lab.consumer(0), **changes))
        self.addCleanup(run.close)
        answer = run.until("run.leased")["lease"]
        lease = self.lab.adopt_document(self.daemon, self.lab.consumer(0), answer)
        self.addCleanup(lease.consumer.dismiss, lease.vm_key)
        lease.wait_tunnel()
        run.until("tunnel.established")
        return run, lease

    def test_a_guest_that_has_done_its_work_is_0(self):
        run, lease = self.start()
        shell = lease.shell()
        self.addCleanup(shell.close)
        shell.send("poweroff -f\n")
        code, lines, _ = run.end()
        self.assertEqual((0, "guest_shutdown"), (code, lines[-1]["reason"]))
        self.assert_nothing_left()

    def test_a_violation_that_terminates_is_3(self):
        run, lease = self.start(on_violation="terminate")
        shell = lease.shell()
        self.addCleanup(shell.close)
        guest.drop_firewall(shell, {INTERNET})
        shell.send(f"tftp -g -l /dev/null -r x {INTERNET} 53\n")
        code, lines, _ = run.end()
        self.assertEqual((3, "policy_violation"), (code, lines[-1]["reason"]))
        self.assertIn("violation.detected", [line["type"] for line in lines])
        self.assert_nothing_left()
