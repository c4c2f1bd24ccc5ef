"""`omertad nat` by itself: one NAT in the foreground, for a VM that somebody else runs. Here Python is the VM."""

import os
import signal
import socket
import struct
import time

import frames
from lab import CONSUMER, CONSUMER_PORT, LAN_HOST, PROVIDER, WEB
from nat_case import ALLOWED, GATEWAY, GUEST, GUEST_MAC, OTHER_MAC, PORT, NatCase, SyntheticGuest


class Nat(NatCase):
    """The promises of `filtered`."""

    # ---- what is answered and forwarded

    def test_arp_for_the_gateway_is_answered(self):
        self.guest.send(frames.arp(1, GUEST_MAC, GUEST, bytes(6), GATEWAY), 0x0806)
        answer = self.guest.receive()
        self.assertEqual((GUEST_MAC, 0x0806), (answer[:6], struct.unpack_from("!H", answer, 12)[0]))
        self.assertEqual((2, socket.inet_aton(GATEWAY)), (struct.unpack_from("!H", answer, 20)[0], answer[28:32]))

    def test_arp_for_anybody_else_is_not_answered(self):
        self.guest.send(frames.arp(1, GUEST_MAC, GUEST, bytes(6), "192.168.64.3"), 0x0806)
        self.assertTrue(self.guest.is_deaf())

    def test_dhcp_gives_the_leased_address(self):
        for kind, answer_kind in ((1, 2), (3, 5)):
            request = frames.dhcp(kind, GUEST_MAC, 0x12345678)
            self.guest.send_udp(request, ("255.255.255.255", 67), ("0.0.0.0", 68))
            message = self.guest.receive()[14 + 20 + 8:]
            options = frames.dhcp_options(message)
            self.assertEqual(bytes((answer_kind,)), options[53])
            self.assertEqual(socket.inet_aton(GUEST), message[16:20])
            self.assertEqual(b"\xff\xff\xff\0", options[1])

    def test_allowed_udp_passes_byte_for_byte_both_ways(self):
        for size in (0, 1, 2, 148, 1471, 1472):
            data = bytes((7 * i + size) % 256 for i in range(size))
            self.guest.send_udp(data)
            there, source = self.heard()
            self.assertEqual(data, there)
            self.assertEqual(PROVIDER, source[0])
            self.consumer.sendto(data[::-1], source)
            frame = self.guest.receive()
            protocol, near, far, payload = frame[23], frame[26:30], frame[30:34], frame[42:]
            self.assertEqual((17, socket.inet_aton(CONSUMER), socket.inet_aton(GUEST)), (protocol, near, far))
            self.assertEqual((PORT, 40000), struct.unpack_from("!HH", frame, 34))
            self.assertEqual(data[::-1], payload[:size])
            self.assertEqual(0, frames.checksum(frame[14:34]), "IPv4 header checksum")
        self.assertEqual([], [str(leak) for leak in self.lab.oracle.leaks(self.before)])

    def test_each_port_of_the_guest_has_a_flow_of_its_own(self):
        sources = {}
        for port in (40001, 40002, 40003):
            self.guest.send_udp(str(port).encode(), source=(GUEST, port))
            data, source = self.heard()
            sources[int(data)] = source
        self.assertEqual(3, len(set(sources.values())))
        for port, source in sources.items():
            self.consumer.sendto(b"back", source)
            self.assertEqual(port, struct.unpack_from("!H", self.guest.receive(), 36)[0])

    def test_vfkit_greeting_is_accepted(self):
        self.guest.send_raw(b"VFKT")
        self.assert_works()
        self.assertEqual(set(), self.codes())

    # ---- what is not

    def test_everything_else_is_dropped_and_reported(self):
        good = frames.udp_packet((GUEST, 40000), ALLOWED, b"x")
        bad = {
            "destination_not_allowed": frames.udp_packet((GUEST, 40000), (WEB, PORT), b"x"),
            "port_not_allowed": frames.udp_packet((GUEST, 40000), (CONSUMER, CONSUMER_PORT), b"x"),
            "protocol_not_allowed": frames.tcp_syn((GUEST, 40000), ALLOWED),
            "source_ip_spoofed": frames.udp_packet(("192.168.64.77", 40000), ALLOWED, b"x"),
            "fragment": frames.udp_packet((GUEST, 40000), ALLOWED, b"x" * 8, fragment=0x2000),
            "ip_options": frames.udp_packet((GUEST, 40000), ALLOWED, b"x", options=b"\x07\x07\x04\0\0\0\0\0"),
            "malformed": good[:10] + b"\0\0" + good[12:],
        }
        self.assert_works()
        for code, packet in bad.items():
            with self.subTest(code):
                self.guest.send(packet)
                self.expect(code)
        for code, ethertype, source, payload in (
                ("source_mac_spoofed", 0x0800, OTHER_MAC, good),
                ("vlan", 0x8100, GUEST_MAC, b"\0\5\x08\0" + good),
                ("arp_spoofed", 0x0806, GUEST_MAC, frames.arp(1, GUEST_MAC, GATEWAY, bytes(6), GATEWAY))):
            with self.subTest(code):
                self.guest.send(payload, ethertype, source)
                self.expect(code)
        with self.subTest("ipv6"):
            self.guest.send(b"\x60" + bytes(39), 0x86DD, destination=OTHER_MAC)
            self.expect("ipv6")
        self.assert_works()
        self.assert_nothing_leaked(self.before)

    def test_hostile_destinations_never_leave(self):
        for ip in ("127.0.0.1", "127.1.2.3", "0.0.0.0", PROVIDER, "192.168.77.1", LAN_HOST, "169.254.169.254",
                   "224.0.0.1", "255.255.255.255", "8.8.8.8", "192.168.64.255", GATEWAY):
            for port in (0, 53, PORT, 8080):
                self.guest.send_udp(b"out", (ip, port))
                self.guest.send(frames.tcp_syn((GUEST, 40000), (ip, port)))
            self.guest.send(frames.ipv4(GUEST, ip, frames.ICMP, frames.icmp_echo()))
        self.assert_works()
        self.assert_nothing_leaked(self.before)
        self.assertEqual([], self.lab.arrived())

    def test_lies_about_lengths_are_survived(self):
        packet = frames.udp_packet((GUEST, 40000), ALLOWED, b"x" * 64)
        good = frames.ethernet(frames.BROADCAST, GUEST_MAC, 0x0800, packet)
        self.assert_works()
        for cut in list(range(1, 60)) + [len(good) - 1]:
            self.guest.send_raw(good[:cut])
        for total in (0, 19, 20, 27, 28, 1500, 65535):
            self.guest.send_udp(b"x" * 64, total=total)
        for words in (0, 1, 4, 6, 15):
            self.guest.send_raw(good[:14] + bytes((0x40 | words,)) + good[15:])
        self.guest.send_raw(good + b"\0" * 9000)
        self.guest.send_raw(os.urandom(1500))
        time.sleep(0.1)
        self.assert_works()
        self.assert_nothing_leaked(self.before)

    def test_a_flood_of_violations_is_aggregated(self):
        self.assert_works()
        for i in range(3000):
            self.guest.send_udp(b"x", (f"203.0.{i % 250}.{i // 250}", 53))
        self.expect("destination_not_allowed")
        self.assert_works()
        self.assertEqual(0, self.stop())
        self.assertLess(len(self.reports()), 1000)

    def test_a_second_sender_is_ignored(self):
        self.assert_works()
        stranger = None
        try:
            stranger = SyntheticGuest(self.folder / "stranger.sock", self.path)
            stranger.send_udp(b"from a stranger")
        except OSError:
            pass  # the kernel itself refuses it once the NAT is connected
        finally:
            if stranger:
                stranger.close()
        self.guest.send_udp(b"from the guest")
        self.assertEqual(b"from the guest", self.heard()[0])

    def test_datagrams_of_a_stranger_never_reach_the_guest(self):
        self.guest.send_udp(b"hello")
        _, uplink = self.heard()
        stranger, other_port = self.lab.world.socket(), self.lab.world.socket()
        with stranger, other_port:
            stranger.bind(("198.51.100.3", PORT))
            other_port.bind((CONSUMER, PORT + 1))
            with self.lab.oracle.forgiving(lambda packet: not packet.outgoing and packet.destination == uplink):
                for handle in (stranger, other_port):
                    handle.sendto(b"let me in", uplink)
                self.assertTrue(self.guest.is_deaf())
        self.consumer.sendto(b"it is me", uplink)
        self.assertEqual(b"it is me", self.guest.receive()[42:50])
        self.assert_nothing_leaked(self.before)

    # ---- how it ends

    def test_signals_end_it_with_exit_code_0_and_no_socket(self):
        self.assert_works()
        self.guest.send(frames.arp(1, GUEST_MAC, GUEST, bytes(6), GATEWAY), 0x0806)
        self.assertIsNotNone(self.guest.receive())  # the NAT counts a frame after it has sent it, and before the next
        self.assertEqual(0, self.stop(signal.SIGTERM))
        self.assertFalse(self.path.exists())
        last = self.reports()[-1]
        self.assertEqual(("ended", 1), (last["report"], last["frames"]["allowed"]))

    def test_interrupt_ends_it_as_well(self):
        self.assertEqual(0, self.stop(signal.SIGINT))
        self.assertFalse(self.path.exists())

    def test_bad_options_exit_2_and_name_the_option(self):
        path = self.folder / "other.sock"
        for arguments, word in (
                (("--mode", "filtered", "--allow", "1.2.3.4:5"), "--listen"),
                (("--listen", path, "--mode", "open", "--allow", "1.2.3.4:5"), "--mode"),
                (("--listen", path, "--mode", "filtered", "--allow", "1.2.3.4"), "--allow"),
                (("--listen", path, "--mode", "filtered", "--allow", "127.0.0.1:5"), "127.0.0.1"),
                (("--listen", path, "--mode", "filtered", "--allow", "1.2.3.4:0"), "1.2.3.4:0"),
                (("--listen", path, "--mode", "filtered"), "--allow"),
                (("--listen", path, "--mode", "filtered", "--allow", "1.2.3.4:5", "--mtu", "9000"), "9000"),
                (("--listen", path, "--mode", "filtered", "--allow", "1.2.3.4:5", "--guest-mac", "ff:ff:ff:ff:ff:ff"),
                 "--guest-mac"),
                (("--listen", path, "--mode", "filtered", "--allow", "1.2.3.4:5", "--colour"), "--colour")):
            with self.subTest(" ".join(map(str, arguments))):
                done = self.home.run("nat", *arguments)
                self.assertEqual(2, done.returncode, done.stderr)
                self.assertIn(word, done.stderr)
                self.assertFalse(path.exists())
