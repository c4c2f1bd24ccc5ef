"""The oracle: what really left the VMs, seen from outside of them and of the daemon.

It reads every frame on the provider's uplink and on its loopback and judges each by rules that know nothing of the
daemon's. Allowed is WireGuard between the provider and a consumer, TCP of the control plane's own port on loopback, ARP
of the link itself, and the kernel's port-unreachable answer to a datagram that came in. All else has leaked.
"""

import contextlib
import select
import socket
import struct
import threading
import time
from typing import NamedTuple

ETH_P_ALL, ETH_P_IP, ETH_P_ARP = 0x0003, 0x0800, 0x0806
ICMP, TCP, UDP = 1, 6, 17
SOL_PACKET, PACKET_STATISTICS, SO_RCVBUFFORCE = 263, 6, 33
PACKET_OUTGOING = 4
RECEIVE_BYTES = 16 << 20


class Packet(NamedTuple):
    """One frame's addresses. Fields that it does not have are None."""

    at: float
    interface: str
    outgoing: bool
    ethertype: int
    protocol: int = None
    source: tuple = None
    destination: tuple = None
    frame: bytes = b""

    def __str__(self):
        if self.source is None:
            return f"{self.interface} ethertype {self.ethertype:#06x} {self.frame[:42].hex()}"
        way = "out" if self.outgoing else "in"
        return (f"{self.interface} {way} protocol {self.protocol} {self.source[0]}:{self.source[1]} -> "
                f"{self.destination[0]}:{self.destination[1]} ({len(self.frame)} bytes)")


def _ip_parts(data):
    """(protocol, source, destination, payload) of an IPv4 packet; ports are 0 where there are none."""
    header = (data[0] & 15) * 4
    protocol, source, destination = data[9], socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20])
    payload = data[header:]
    first_fragment = struct.unpack_from("!H", data, 6)[0] & 0x1FFF == 0
    has_ports = protocol in (TCP, UDP) and first_fragment and len(payload) >= 4
    ports = struct.unpack_from("!HH", payload) if has_ports else (0, 0)
    return protocol, (source, ports[0]), (destination, ports[1]), payload


def decode(frame, interface="", outgoing=True, at=0.0):
    """A frame's Packet; never fails, whatever the bytes are."""
    ethertype = struct.unpack_from("!H", frame, 12)[0] if len(frame) >= 14 else 0
    if ethertype != ETH_P_IP or len(frame) < 34:
        return Packet(at, interface, outgoing, ethertype, frame=frame)
    protocol, source, destination, _ = _ip_parts(frame[14:])
    return Packet(at, interface, outgoing, ethertype, protocol, source, destination, frame)


class Rules:
    """What may be seen. All else is a leak."""

    def __init__(self, provider, link_addresses, uplink="up0"):
        self.provider = provider
        self.link_addresses = set(link_addresses)
        self.uplink = uplink
        self.consumers = set()  # (ip, port)
        self.api_ports = set()
        self._came_in = set()  # (source, destination) of UDP that came in on the uplink

    def allows(self, packet):
        """Whether this packet may have been seen. Return: bool"""
        if packet.interface != self.uplink:
            return packet.protocol == TCP and bool({packet.source[1], packet.destination[1]} & self.api_ports)
        if packet.ethertype == ETH_P_ARP:
            return self._allows_arp(packet.frame)
        if packet.source is None:
            return False
        if not packet.outgoing and packet.protocol == UDP:
            self._came_in.add((packet.source, packet.destination))
        if packet.protocol == UDP:
            near, far = packet.source, packet.destination
            if not packet.outgoing:
                near, far = far, near
            return near[0] == self.provider and far in self.consumers
        return packet.protocol == ICMP and packet.outgoing and self._is_answer(packet)

    def _allows_arp(self, frame):
        """ARP between the two ends of the link, about addresses that the link has."""
        if len(frame) < 42:
            return False
        sender, target = socket.inet_ntoa(frame[28:32]), socket.inet_ntoa(frame[38:42])
        return {sender, target} <= self.link_addresses

    def _is_answer(self, packet):
        """Port unreachable, quoting a UDP datagram that came in: the kernel's own, no VM can cause it by itself."""
        _, source, destination, message = _ip_parts(packet.frame[14:])
        if source[0] != self.provider or message[:2] != b"\x03\x03" or len(message) < 8 + 28:
            return False
        protocol, quoted_source, quoted_destination, _ = _ip_parts(message[8:])
        return protocol == UDP and quoted_source[0] == destination[0] and \
            (quoted_source, quoted_destination) in self._came_in


class Mark(int):
    """A point in a capture: how many leaks had been seen by then, and how many frames lost."""

    lost = 0


class Oracle:
    """A capture of some interfaces of one namespace, from start() to stop()."""

    def __init__(self, namespace, interfaces, rules):
        self.rules = rules
        self._namespace = namespace
        self._interfaces = interfaces
        self._sockets = {}
        self._stop = threading.Event()
        self._thread = None
        self._leaks = []
        self._seen = 0
        self._lost = 0
        self._forgiven = None

    def start(self):
        """Begin to listen. Return: self"""
        for name in self._interfaces:
            # Protocol 0: nothing is delivered before the bind says from which interface.
            handle = self._namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._sockets[handle] = name
            with contextlib.suppress(PermissionError):  # root of a user namespace may not; the default is enough
                handle.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)
            with self._namespace.entered():
                handle.bind((name, ETH_P_ALL))
        self._thread = threading.Thread(target=self._listen, name="oracle", daemon=True)
        self._thread.start()
        return self

    def stop(self):
        """End the capture. What was seen stays readable."""
        self._stop.set()
        if self._thread:
            self._thread.join()
        for handle in self._sockets:
            handle.close()
        self._sockets = {}

    def _listen(self):
        while not self._stop.is_set():
            ready, _, _ = select.select(list(self._sockets), [], [], 0.1)
            for handle in ready:
                self._take(handle)

    def _take(self, handle):
        frame, address = handle.recvfrom(65535)
        name, outgoing = self._sockets[handle], address[2] == PACKET_OUTGOING
        if name != self.rules.uplink and not outgoing:
            return  # loopback shows each packet twice
        packet = decode(frame, name, outgoing, time.time())
        self._seen += 1
        if not self.rules.allows(packet) and not (self._forgiven and self._forgiven(packet)):
            self._leaks.append(packet)

    @contextlib.contextmanager
    def forgiving(self, predicate):
        """Packets for which @predicate holds are the test's own for the body."""
        self._forgiven = predicate
        try:
            yield
        finally:
            self.settle()
            self._forgiven = None

    def settle(self, seconds=0.3):
        """Wait until what is on its way has been read."""
        seen = -1
        while seen != self._seen:
            seen = self._seen
            time.sleep(seconds)

    def lost(self):
        """Frames that the kernel could not hand over: a capture with a loss proves nothing."""
        for handle in self._sockets:
            self._lost += struct.unpack("II", handle.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]
        return self._lost

    @property
    def seen(self):
        """Frames judged so far."""
        return self._seen

    def mark(self):
        """A point in the capture, for leaks(since=...)."""
        self.settle()
        mark = Mark(len(self._leaks))
        mark.lost = self.lost()
        return mark

    def leaks(self, since=0):
        """Packets that must not have been seen since a mark. Raise: RuntimeError when the capture has holes since then"""
        self.settle()
        if self.lost() > getattr(since, "lost", 0):
            raise RuntimeError("the capture lost frames, so it proves nothing")
        return self._leaks[since:]

    def forget(self):
        """Start counting again: after what leaks on purpose, or sends more than a capture can take."""
        self.settle()
        self._leaks.clear()
        self.lost()
        self._lost = 0
