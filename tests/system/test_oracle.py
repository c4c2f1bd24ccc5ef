"""The oracle itself: a capture that cannot see a leak would prove nothing."""

import socket

import capture
import frames
from case import LabCase
from lab import CONSUMER, INTERNET, LAN_PROVIDER, PROVIDER, SERVICE_PORT, STRANGER

NEAR, FAR = frames.mac("02:00:00:00:00:01"), frames.mac("02:00:00:00:00:02")
TUNNEL = (CONSUMER, 51900)


class Judgement(LabCase):
    """The rules on frames made by hand."""

    def setUp(self):
        self.rules = capture.Rules(PROVIDER, {PROVIDER, CONSUMER})
        self.rules.consumers.add(TUNNEL)
        self.rules.api_ports.add(7700)

    def allows(self, payload, outgoing=True, interface="up0", ethertype=0x0800):
        """What the rules say of one frame."""
        frame = frames.ethernet(FAR, NEAR, ethertype, payload)
        return self.rules.allows(capture.decode(frame, interface, outgoing))

    def test_only_the_tunnel_may_pass_the_uplink(self):
        near = (PROVIDER, 40000)
        self.assertTrue(self.allows(frames.udp_packet(near, TUNNEL, b"x")))
        self.assertTrue(self.allows(frames.udp_packet(TUNNEL, near, b"x"), outgoing=False))
        for source, destination in ((near, (CONSUMER, 51901)), (near, (INTERNET, 51900)),
                                    ((LAN_PROVIDER, 40000), TUNNEL),
                                    (("192.168.64.2", 40000), TUNNEL), (TUNNEL, near)):
            with self.subTest(f"{source} {destination}"):
                self.assertFalse(self.allows(frames.udp_packet(source, destination, b"x")))
        self.assertFalse(self.allows(frames.tcp_syn(near, TUNNEL)))
        self.assertFalse(self.allows(frames.ipv4(PROVIDER, CONSUMER, frames.ICMP, frames.icmp_echo())))
        self.assertFalse(self.allows(frames.udp_packet(near, TUNNEL, b"x"), interface="lo"))
        self.assertFalse(self.allows(b"\x60" + bytes(39), ethertype=0x86DD))
        self.assertFalse(self.allows(b"", ethertype=0x88CC))

    def test_only_the_api_may_use_loopback(self):
        here, api = ("127.0.0.1", 40000), ("127.0.0.1", 7700)
        self.assertTrue(self.allows(frames.tcp_syn(here, api), interface="lo"))
        self.assertFalse(self.allows(frames.tcp_syn(here, ("127.0.0.1", 22)), interface="lo"))
        self.assertFalse(self.allows(frames.udp_packet(here, api, b"x"), interface="lo"))

    def test_arp_is_for_the_link_s_own_addresses(self):
        for target, allowed in ((CONSUMER, True), ("192.168.64.3", False), (INTERNET, False)):
            self.assertEqual(allowed, self.allows(frames.arp(1, NEAR, PROVIDER, bytes(6), target), ethertype=0x0806))

    def test_an_icmp_error_must_quote_what_came_in(self):
        question = frames.udp_packet((STRANGER, 5), (PROVIDER, 40000), b"x")
        answer = frames.ipv4(PROVIDER, STRANGER, frames.ICMP, b"\x03\x03" + bytes(6) + question)
        self.assertFalse(self.allows(answer), "nothing came in yet")
        self.assertFalse(self.allows(question, outgoing=False), "a stranger's datagram is not the tunnel's")
        self.assertTrue(self.allows(answer))

    def test_anything_can_be_decoded(self):
        good = frames.ethernet(FAR, NEAR, 0x0800, frames.udp_packet((PROVIDER, 1), TUNNEL, b"x"))
        for cut in range(len(good)):
            self.assertFalse(self.rules.allows(capture.decode(good[:cut], "up0")) and cut < 38)


class Sight(LabCase):
    """The capture on the lab's own wire."""

    def test_each_forbidden_datagram_is_counted(self):
        before = self.lab.oracle.mark()
        with self.lab.prov.socket() as handle:
            handle.sendto(b"leak", (INTERNET, 4444))
            handle.sendto(b"leak", ("127.0.0.1", 4444))
        seen = {(leak.interface, leak.destination) for leak in self.lab.oracle.leaks(before)
                if leak.protocol == capture.UDP}
        self.assertEqual({("up0", (INTERNET, 4444)), ("lo", ("127.0.0.1", 4444))}, seen)
        self.lab.forget()

    def test_a_service_that_was_reached_says_so(self):
        with self.lab.prov.socket(kind=socket.SOCK_STREAM) as handle:
            handle.connect((LAN_PROVIDER, SERVICE_PORT))
            handle.recv(10)
        self.assertEqual([(LAN_PROVIDER, SERVICE_PORT)], [arrival.destination for arrival in self.lab.arrived()])
        self.lab.forget()
