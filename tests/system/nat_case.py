"""A NAT in the foreground with a synthetic guest at its attachment and a consumer behind its uplink."""

import json
import os
import signal
import socket
import struct

import frames
from case import LabCase, wait_for
from lab import CONSUMER

GUEST_MAC, OTHER_MAC = frames.mac("52:54:00:6f:6d:01"), frames.mac("52:54:00:6f:6d:02")
GUEST, GATEWAY = "192.168.64.2", "192.168.64.1"
PORT = 51940  # the endpoint that this NAT allows
ALLOWED = (CONSUMER, PORT)


class SyntheticGuest:
    """The other end of a NAT's attachment."""

    def __init__(self, path, nat_path):
        self.path = path
        self._handle = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._handle.bind(str(path))
        os.chmod(path, 0o777)
        self._handle.settimeout(10)
        self._handle.connect(str(nat_path))

    def send(self, payload, ethertype=0x0800, source=GUEST_MAC, destination=frames.BROADCAST):
        """One frame around @payload."""
        self.send_raw(frames.ethernet(destination, source, ethertype, payload))

    def send_raw(self, frame):
        """Bytes as they are. A full queue is waited for, as it is by a hypervisor."""
        self._handle.send(frame)

    def send_udp(self, data, destination=ALLOWED, source=(GUEST, 40000), **fields):
        """One UDP datagram."""
        self.send(frames.udp_packet(source, destination, data, **fields))

    def receive(self):
        """The next frame for the guest, None when there is none."""
        try:
            return self._handle.recv(65535)
        except TimeoutError:
            return None

    def is_deaf(self, seconds=0.4):
        """Whether nothing arrives for a while."""
        self._handle.settimeout(seconds)
        try:
            return self.receive() is None
        finally:
            self._handle.settimeout(10)

    def close(self):
        """Gone."""
        self._handle.close()
        self.path.unlink(missing_ok=True)


class LeasedGuest(SyntheticGuest):
    """A guest that keeps to the addresses of its lease."""

    def __init__(self, path, nat_path, mac):
        path.unlink(missing_ok=True)
        super().__init__(path, nat_path)
        self.mac = mac

    def send_udp(self, data, destination=ALLOWED, source=(GUEST, 40000), **fields):
        self.send(frames.udp_packet(source, destination, data, **fields), source=self.mac)


class StreamGuest(SyntheticGuest):
    """The same over a stream: each frame behind its length."""

    def __init__(self, path, nat_path):
        self.path = path
        self._handle = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._handle.settimeout(10)
        self._handle.connect(str(nat_path))

    def send_raw(self, frame):
        self.send_bytes(struct.pack("!I", len(frame)) + frame)

    def send_bytes(self, data):
        """Bytes as they are, without a length before them."""
        self._handle.sendall(data)

    def receive(self):
        try:
            (length,) = struct.unpack("!I", self._handle.recv(4, socket.MSG_WAITALL))
            return self._handle.recv(length, socket.MSG_WAITALL)
        except TimeoutError:
            return None


class Recorder:
    """Rules for a second capture that remembers instead of judging."""

    uplink = "up0"

    def __init__(self):
        self.packets = []

    def allows(self, packet):
        """Everything."""
        self.packets.append(packet)
        return True


class NatCase(LabCase):
    """A NAT that allows one port of the consumer, a guest and that consumer."""

    mode = "filtered"
    options = ()
    guest_class = SyntheticGuest

    @classmethod
    def setUpClass(cls):
        cls.home = cls.daemon = cls.lab.daemon(cls.__name__.lower(), image=False)  # not started: for its folders
        cls.consumer = cls.open_consumer()
        cls.lab.rules.consumers.add(ALLOWED)

    @classmethod
    def open_consumer(cls):
        """The one endpoint that is allowed."""
        consumer = cls.lab.world.socket()
        consumer.bind(ALLOWED)
        consumer.settimeout(10)
        return consumer

    @classmethod
    def tearDownClass(cls):
        cls.consumer.close()
        cls.lab.rules.consumers.discard(ALLOWED)

    def setUp(self):
        self.folder = self.home.runtime / self._testMethodName
        self.folder.mkdir()
        self.lab.user.give(self.folder)
        self.path = self.folder / "nat.sock"
        self.report_file = self.folder / "report"
        with open(self.report_file, "wb") as report, open(self.home.log_file, "ab") as log:
            self.process = self.lab.prov.start(
                *self.home.command("nat", "--listen", self.path, "--mode", self.mode, "--allow", f"{CONSUMER}:{PORT}",
                                   "--report", "-", *self.options),
                stdout=report, stderr=log, env=self.home.environment)
        self.addCleanup(self.end)
        wait_for(lambda: self.path.exists() or self.process.poll() is not None, 10, "the NAT listens")
        self.assertIsNone(self.process.poll(), "the NAT ended")
        self.guest = self.guest_class(self.folder / "guest.sock", self.path)
        self.addCleanup(self.guest.close)
        self.before = self.lab.oracle.mark()

    def end(self):
        """Kill the NAT if the test did not end it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def stop(self, number=signal.SIGTERM):
        """End the NAT in good order. Return: its exit code"""
        self.process.send_signal(number)
        return self.process.wait(10)

    def reports(self):
        """Every whole line that the NAT has reported so far; the last may be on its way."""
        whole, _, _ = self.report_file.read_text(encoding="utf-8").rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def codes(self):
        """Codes of the violations reported so far."""
        return {report["violation"]["code"] for report in self.reports() if report["report"] == "violation"}

    def expect(self, code):
        """Wait until a violation of this kind is reported."""
        wait_for(lambda: code in self.codes(), 20, f"{code} in {self.codes()}")

    def heard(self):
        """The next datagram at the consumer: (data, source)."""
        return self.consumer.recvfrom(65535)

    def assert_works(self):
        """What is allowed still passes."""
        self.guest.send_udp(b"still there")
        self.assertEqual(b"still there", self.heard()[0])
