"""Frames from a hostile VM, line by line of what a NAT must hold, in every mode that has one.

The oracle is what comes out: the consumer's socket gets each payload that has to pass, and nothing else is seen by the
capture on the provider's uplink and loopback.
"""

import os
import select
import socket
import struct
import time
from typing import NamedTuple

import capture
import frames
from case import wait_for
from lab import CONSUMER, CONSUMER_PORT, LAN_HOST, LAN_PROVIDER, PROVIDER, STRANGER, WEB, program
from nat_case import ALLOWED, GATEWAY, GUEST, GUEST_MAC, OTHER_MAC, PORT, NatCase, Recorder, SyntheticGuest

PACE = 100  # frames in a tenth of a second: the kernel filter closes above 256
STORM_FRAMES = 1_000_000
STORM_LIMIT_S = 300  # a build with sanitizers on a loaded machine; a plain one needs ten
SWAPPED = (PORT % 256) << 8 | PORT // 256
NEVER = ("127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.1.1", "224.0.0.1",
         "239.255.255.250", "240.0.0.1", "255.255.255.255", "192.168.64.255", "192.168.64.3", GATEWAY, GUEST, PROVIDER,
         LAN_PROVIDER)


class Crafted(NamedTuple):
    """One frame and whether its payload has to come out at the consumer. @code: the violation that it is, if told."""

    name: str
    frame: bytes
    passes: bool = False
    code: str = ""


def around(packet, ethertype=0x0800, source=GUEST_MAC, destination=frames.BROADCAST):
    """The frame around a packet."""
    return frames.ethernet(destination, source, ethertype, packet)


def good(data, **fields):
    """An allowed packet."""
    return frames.udp_packet((GUEST, 40000), ALLOWED, data, **fields)


def patched(packet, at, new, mend=True):
    """@packet with other bytes at an offset; its IPv4 header checksum is made right again."""
    packet = packet[:at] + new + packet[at + len(new):]
    if mend:
        packet = packet[:10] + b"\0\0" + packet[12:]
        packet = packet[:10] + struct.pack("!H", frames.checksum(packet[:20])) + packet[12:]
    return packet


def without_udp_checksum(packet):
    """Zero: RFC 768 has none then, and no change of the datagram is noticed by it."""
    return patched(packet, 26, b"\0\0", False)


class Maker:
    """Payloads that say which frame they came in."""

    def __init__(self):
        self.made = []

    def add(self, name, build, passes=False, code=""):
        """@build gets a payload that no other frame has."""
        payload = f"{len(self.made):05d} {name}".encode()[:64].ljust(64, b".")
        self.made.append(Crafted(name, build(payload), passes, code))


def ethernet_frames(maker):
    """Ethernet II and 0x0800 alone; 802.3, VLAN in all its forms, and what else has a number."""
    for kind in (0, 1, 46, 1500, 0x05DC, 0x0600, 0x0801, 0x0008, 0x0842, 0x22F0, 0x6003, 0x8035, 0x809B, 0x8137,
                 0x8808, 0x8809, 0x8847, 0x8848, 0x8863, 0x8864, 0x888E, 0x88A2, 0x88CC, 0x88E5, 0x88F7, 0x8906,
                 0x9000, 0xFFFF):
        maker.add(f"ethertype {kind:#06x}", lambda data, kind=kind: around(good(data), kind))
        maker.add(f"ethertype {kind:#06x} unicast",
                  lambda data, kind=kind: around(good(data), kind, destination=OTHER_MAC), code="protocol_not_allowed")
    for kind in (0x8100, 0x88A8, 0x9100):
        for tag in (0, 1, 5, 0x0FFF, 0xE001):
            head = struct.pack("!HH", tag, 0x0800)
            maker.add(f"VLAN {kind:#06x} {tag}", lambda data, kind=kind, head=head: around(head + good(data), kind),
                      code="vlan")
        maker.add(f"two VLANs {kind:#06x}",
                  lambda data, kind=kind: around(struct.pack("!HHHH", 5, 0x8100, 6, 0x0800) + good(data), kind),
                  code="vlan")
    maker.add("802.3 with SNAP", lambda data: around(b"\xaa\xaa\x03\0\0\0\x08\0" + good(data), 8 + 92))
    maker.add("IPv6 type over IPv4 bytes", lambda data: around(good(data), 0x86DD, destination=OTHER_MAC), code="ipv6")
    for bit in range(48):
        other = (int.from_bytes(GUEST_MAC, "big") ^ 1 << bit).to_bytes(6, "big")
        maker.add(f"source MAC bit {bit}", lambda data, other=other: around(good(data), source=other),
                  code="source_mac_spoofed")
    for target in (frames.BROADCAST, OTHER_MAC, bytes(6), GUEST_MAC):
        maker.add(f"towards {target.hex()}", lambda data, target=target: around(good(data), destination=target), True)


def header_frames(maker):
    """Byte 14 is 0x45, no fragment, total length within the frame, checksum right, source as leased."""
    for first in range(256):
        maker.add(f"byte 14 {first:#04x}", lambda data, first=first: around(patched(good(data), 0, bytes((first,)))),
                  first == 0x45)
    for options in (b"\1\1\1\0", b"\x07\x07\x04\0\0\0\0\0", b"\x83\x07\x04\x08\x08\x08\x08\0", b"\x94\x04\0\0",
                    b"\x44\x0c\x05\0" + bytes(8), bytes(40), b"\x07\x00\0\0", b"\x07\xff\0\0"):
        maker.add(f"IP options {options[:4].hex()}", lambda data, options=options: around(good(data, options=options)),
                  code="ip_options")
    for field in [1 << bit for bit in range(16)] + [0x2001, 0x1FFF, 0x3FFF, 0x6000, 0xC000, 0xFFFF, 0x4001]:
        maker.add(f"fragment field {field:#06x}", lambda data, field=field: around(good(data, fragment=field)),
                  field == 0x4000, "" if field == 0x4000 else "malformed" if field & 0x8000 else "fragment")
    for total in (*range(0, 92), *range(93, 128), 1500, 1501, 9000, 32767, 32768, 65535):
        maker.add(f"total length {total}",
                  lambda data, total=total: around(patched(without_udp_checksum(good(data)), 2,
                                                           struct.pack("!H", total))),
                  code="malformed")
    for bit in range(16):
        maker.add(f"header checksum bit {bit}",
                  lambda data, bit=bit: around(patched(good(data), 10, struct.pack(
                      "!H", struct.unpack_from("!H", good(data), 10)[0] ^ 1 << bit), False)), code="malformed")
    for bit in range(32):
        ip = socket.inet_ntoa(struct.pack("!I", int.from_bytes(socket.inet_aton(GUEST), "big") ^ 1 << bit))
        maker.add(f"source {ip}", lambda data, ip=ip: around(frames.udp_packet((ip, 40000), ALLOWED, data)),
                  code="source_ip_spoofed")
    for protocol in range(256):
        maker.add(f"protocol {protocol}",
                  lambda data, protocol=protocol: around(patched(good(data), 9, bytes((protocol,)))),
                  protocol == frames.UDP, "" if protocol == frames.UDP else "protocol_not_allowed")
    for field in (0, 1, 255):
        maker.add(f"TTL {field}", lambda data, field=field: around(patched(good(data), 8, bytes((field,)))), True)
        maker.add(f"TOS {field}", lambda data, field=field: around(patched(good(data), 1, bytes((field,)))), True)


def transport_frames(maker):
    """UDP lengths and checksums, ports, destinations."""
    for length in (*range(0, 72), *range(73, 110), 1480, 65535):
        maker.add(f"UDP length {length}",
                  lambda data, length=length: around(patched(without_udp_checksum(good(data)), 24,
                                                             struct.pack("!H", length))), code="malformed")
    for bit in range(16):
        maker.add(f"UDP checksum bit {bit}",
                  lambda data, bit=bit: around(patched(good(data), 26, struct.pack(
                      "!H", struct.unpack_from("!H", good(data), 26)[0] ^ 1 << bit), False)), code="malformed")
    maker.add("no UDP checksum", lambda data: around(without_udp_checksum(good(data))), True)
    maker.add("UDP checksum left to the card", lambda data: around(patched(good(data), 26, struct.pack(
        "!H", ~frames.checksum(socket.inet_aton(GUEST) + socket.inet_aton(CONSUMER) +
                               struct.pack("!HH", 17, 72)) & 0xFFFF), False)), True)
    for port in {PORT ^ 1 << bit for bit in range(16)} | {1, 53, 67, 68, 80, 443, 51900, 65535, SWAPPED, CONSUMER_PORT}:
        maker.add(f"port {port}", lambda data, port=port: around(
            frames.udp_packet((GUEST, 40000), (CONSUMER, port), data)), code="port_not_allowed")
    maker.add("port 0", lambda data: around(frames.udp_packet((GUEST, 40000), (CONSUMER, 0), data)), code="malformed")
    maker.add("from port 0", lambda data: around(frames.udp_packet((GUEST, 0), ALLOWED, data)), code="malformed")
    for bit in range(32):
        ip = socket.inet_ntoa(struct.pack("!I", int.from_bytes(socket.inet_aton(CONSUMER), "big") ^ 1 << bit))
        maker.add(f"destination {ip}", lambda data, ip=ip: around(
            frames.udp_packet((GUEST, 40000), (ip, PORT), data)),
                  code="" if ip.startswith("23") else "destination_not_allowed")
    for ip in (*NEVER, STRANGER, LAN_HOST, WEB, "8.8.8.8"):
        maker.add(f"UDP to {ip}", lambda data, ip=ip: around(frames.udp_packet((GUEST, 40000), (ip, PORT), data)))
        maker.add(f"TCP to {ip}", lambda data, ip=ip: around(frames.tcp_syn((GUEST, 40000), (ip, 80))))
        maker.add(f"ICMP to {ip}", lambda data, ip=ip: around(frames.ipv4(GUEST, ip, frames.ICMP, frames.icmp_echo())))


def cut_frames(maker):
    """Frames that end anywhere, or do not end where they should."""
    whole = around(good(bytes(64)))
    for length in range(1, len(whole)):
        maker.add(f"cut at {length}", lambda data, length=length: around(good(data))[:length], code="malformed")
    for extra in (1, 18, 500, 1514 - len(whole)):
        maker.add(f"{extra} bytes of padding", lambda data, extra=extra: around(good(data)) + b"\xee" * extra, True)
    for extra in (1515 - len(whole), 2048, 9000, 60000):
        maker.add(f"jumbo with {extra} bytes more", lambda data, extra=extra: around(good(data)) + b"\xee" * extra,
                  code="malformed")
    maker.add("no bytes at all", lambda data: b"", code="malformed")


def crafted():
    """Every frame made by hand."""
    maker = Maker()
    for part in (ethernet_frames, header_frames, transport_frames, cut_frames):
        part(maker)
    return maker.made


class FrameTests:
    """What holds in each mode; the classes below say in which."""

    def heard_until(self, last):
        """Payloads that came out up to @last."""
        found = []
        while not found or found[-1] != last:
            found.append(self.heard()[0])
        return found

    def test_crafted_frames_pass_if_and_only_if_they_are_right(self):
        self.assert_works()
        made = crafted()
        self.assertGreater(len(made), 1000)
        wanted, heard = [], []
        for number, item in enumerate(made):
            if number % PACE == 0:
                time.sleep(0.11)  # no flood, so that the kernel's filter stays open and each frame is counted
            self.guest.send_raw(item.frame)
            if item.passes:
                wanted.append(item.frame[42:106])
                heard += self.heard_until(wanted[-1])  # in step, so that no queue is ever full
        self.guest.send_udp(b"the last")
        heard += self.heard_until(b"the last")
        self.assertEqual(wanted + [b"the last"], heard)
        self.assert_nothing_leaked(self.before)
        self.assertEqual([], self.lab.arrived())
        self.assertEqual(0, self.stop())
        self.assertEqual(set(), {item.code for item in made if item.code} - self.codes())
        ended = self.reports()[-1]["frames"]
        self.assertEqual(len(made) + 2, sum(ended.values()), "each frame is counted once")
        self.assertEqual(len(wanted) + 2, ended["allowed"])
        for code in {item.code for item in made if item.code}:
            self.assertGreaterEqual(ended[code], sum(item.code == code for item in made), code)

    def test_a_million_mutations(self):
        """frame_storm decides each frame a second time; both must agree to the byte."""
        storm = program().parent / "frame_storm"
        self.assertTrue(storm.exists(), "run make frame_storm")
        self.guest.close()
        self.consumer.close()
        try:
            seed = os.environ.get("OMERTAD_SEED", "20")
            done = self.lab.world.run(storm, self.path, self.folder / "storm.sock", f"{CONSUMER}:{PORT}", seed,
                                      STORM_FRAMES, check=False, timeout=STORM_LIMIT_S)
            self.assertEqual(0, done.returncode, f"seed {seed}: {done.stderr}")
        finally:
            type(self).consumer = self.open_consumer()
        self.assert_nothing_leaked(self.before)
        self.assertEqual([], self.lab.arrived())
        self.assertEqual(0, self.stop())
        words = done.stdout.split()
        sent, forwarded, answered = int(words[1]), int(words[3]), int(words[5])
        frames_seen = self.reports()[-1]["frames"]
        self.assertEqual(forwarded, frames_seen["allowed"], "the kernel's filter has dropped nothing that is right")
        if self.mode == "sampled":  # has no such filter
            self.assertEqual(sent, sum(frames_seen.values()))
        self.assertLessEqual(sum(frames_seen.values()), sent)
        self.assertGreater(sent, STORM_FRAMES - 1)
        self.assertGreater(min(forwarded, answered), 1000, "the storm tries what is right, too")
        self.assertLess(len(self.reports()), 5000, "reports are bounded")

    def test_answers_never_vary_with_what_the_guest_claims(self):
        for sender in (GUEST, "0.0.0.0"):
            for target in (bytes(6), frames.BROADCAST, OTHER_MAC):
                self.guest.send(frames.arp(1, GUEST_MAC, sender, target, GATEWAY), 0x0806)
        self.assertEqual(1, len({self.guest.receive() for _ in range(6)}))
        claims = (b"", b"\x32\x04\x0a\0\0\1", b"\x0c\x05rogue", b"\x3d\x07\1" + OTHER_MAC, b"\x36\x04\x08\x08\x08\x08",
                  b"\x33\x04\xff\xff\xff\xff", b"\x37\x06\1\3\6\x0f\x1a\x79", b"\x39\2\xff\xff", b"\0" * 60,
                  b"\x32\xff", b"\x32\x04", b"\x52\x00", b"\x2b\xff" + bytes(200), b"\x34\1\3")
        answers = set()
        for claim in claims:
            request = frames.dhcp(1, GUEST_MAC, 7, claim)
            self.guest.send_udp(request, ("255.255.255.255", 67), ("0.0.0.0", 68))
            answers.add(self.guest.receive())
        self.assertEqual(1, len(answers))
        self.assertEqual(socket.inet_aton(GUEST), answers.pop()[58:62])
        for spoilt in (frames.dhcp(1, OTHER_MAC, 7), frames.dhcp(4, GUEST_MAC, 7), frames.dhcp(1, GUEST_MAC, 7)[:239],
                       frames.dhcp(1, GUEST_MAC, 7)[:241], b"\2" + frames.dhcp(1, GUEST_MAC, 7)[1:]):
            self.guest.send_udp(spoilt, ("255.255.255.255", 67), ("0.0.0.0", 68))
        self.assertTrue(self.guest.is_deaf())

    def test_a_guest_that_never_reads_costs_nobody_but_itself(self):
        self.guest.send_udp(b"hello")
        _, uplink = self.heard()
        for _ in range(3000):
            self.consumer.sendto(b"\4" + bytes(1400), uplink)
        for number in range(300):
            self.guest.send_udp(b"%d" % number)
            self.assertEqual(b"%d" % number, self.heard()[0])
            self.guest.send(frames.arp(1, GUEST_MAC, GUEST, bytes(6), GATEWAY), 0x0806)
        resident = int(next(line.split()[1] for line in open(f"/proc/{self.process.pid}/status", encoding="ascii")
                            if line.startswith("VmRSS")))
        if "asan" not in str(program()) and "address" not in str(program()):
            self.assertLess(resident, 32 * 1024, "KiB")
        while not self.guest.is_deaf(0.2):
            pass
        self.guest.send_udp(b"again")
        self.assertEqual(b"again", self.heard()[0])
        self.consumer.sendto(b"once more", uplink)
        self.assertEqual(b"once more", self.guest.receive()[42:51])

    def test_bursts_pass_whole_and_in_order(self):
        for start in range(0, 2000, 100):  # as many as a receive queue holds for sure
            burst = [b"%06d" % number for number in range(start, start + 100)]
            for data in burst:
                self.guest.send_udp(data)
            self.assertEqual(burst, [self.heard()[0] for _ in burst])

    def test_another_local_process_is_not_listened_to(self):
        self.assert_works()
        try:
            stranger = SyntheticGuest(self.folder / "stranger.sock", self.path)
        except OSError:
            stranger = None  # refused by the kernel: the NAT's socket has its peer
        if stranger:
            with self.assertRaises(OSError):
                stranger.send_udp(b"from a stranger")
            stranger.close()
        self.guest.send_udp(b"from the guest")
        self.assertEqual(b"from the guest", self.heard()[0])
        self.assert_nothing_leaked(self.before)

    def test_a_forged_icmp_changes_nothing(self):
        """'Fragmentation needed' with a tiny MTU: what is sent afterwards is neither cut nor refused."""
        self.guest.send_udp(b"hello")
        _, uplink = self.heard()
        quoted = frames.udp_packet(uplink, ALLOWED, b"hello")
        message = struct.pack("!BBHHH", 3, 4, 0, 0, 576) + quoted[:28]
        message = message[:2] + struct.pack("!H", frames.checksum(message)) + message[4:]
        recorder = Recorder()
        wire = capture.Oracle(self.lab.prov, ["up0"], recorder).start()
        with self.lab.oracle.forgiving(lambda packet: packet.protocol == capture.ICMP and not packet.outgoing), \
                self.lab.world.socket(kind=socket.SOCK_RAW, protocol=socket.IPPROTO_RAW) as sender:
            for source in (CONSUMER, STRANGER):
                for _ in range(3):
                    sender.sendto(frames.ipv4(source, PROVIDER, frames.ICMP, message), (PROVIDER, 0))
            time.sleep(0.2)
            for number in range(5):
                self.guest.send_udp(bytes((number,)) * 1472)
                self.assertEqual(bytes((number,)) * 1472, self.heard()[0])
        wire.settle()
        wire.stop()
        errors = [packet for packet in recorder.packets if packet.protocol == capture.ICMP and not packet.outgoing]
        sizes = [len(packet.frame) for packet in recorder.packets if packet.outgoing and packet.destination == ALLOWED]
        self.assertEqual((6, [1514] * 5), (len(errors), sizes))
        self.assert_nothing_leaked(self.before)

    def test_a_violation_flood_is_bounded(self):
        self.assert_works()
        sent = 0
        for number in range(20000):
            self.guest.send_udp(b"x", (f"203.0.{number % 250}.{number // 250}", 1 + number % 60000))
            sent += 1
        self.assert_works()
        self.assertEqual(0, self.stop())
        counted = self.reports()[-1]["frames"]["destination_not_allowed"]
        self.assertLessEqual(counted, sent)
        if self.mode == "sampled":
            self.assertEqual(sent, counted)
        else:
            self.assertLess(counted, sent // 4, "the kernel has dropped most of them in the guest's own call")
        self.assertGreater(counted, 200)
        self.assertLess(len(self.reports()), 2000)


class FramesFiltered(FrameTests, NatCase):
    """Every frame is judged."""

    mode = "filtered"
    options = ("--on-violation", "drop")


class FramesConntrack(FrameTests, NatCase):
    """The table answers after the first."""

    mode = "conntrack"
    options = ("--on-violation", "drop")


class FramesSampled(FrameTests, NatCase):
    """Each frame is drawn."""

    mode = "sampled"
    options = ("--on-violation", "drop", "--sampling-rate", "1")


class FramesUnsampled(NatCase):
    """The smallest share: nearly nothing is checked, and still nothing goes where nothing may ever go."""

    mode = "sampled"
    options = ("--on-violation", "drop", "--sampling-rate", "0.001")

    def test_what_is_not_drawn_never_reaches_the_never_list(self):
        self.assert_works()
        for ip in NEVER:
            for port in (53, PORT, 8080):
                for _ in range(20):
                    self.guest.send_udp(b"out", (ip, port))
                self.guest.send(frames.tcp_syn((GUEST, 40000), (ip, port)))
            self.guest.send(frames.ipv4(GUEST, ip, frames.ICMP, frames.icmp_echo()))
        self.assert_works()
        self.assert_nothing_leaked(self.before)
        self.assertEqual([], self.lab.arrived())
        self.assertEqual(0, self.stop())
        self.assertGreater(self.reports()[-1]["frames"]["never"], 500)

    def test_only_whole_udp_of_the_guest_s_own_is_forwarded_unchecked(self):
        """One way only, and the capture sees it: that is what the mode gives up."""
        with self.lab.oracle.forgiving(lambda packet: packet.destination == (WEB, 53) or packet.source == (WEB, 53)):
            self.guest.send_udp(b"unchecked", (WEB, 53))
            wait_for(lambda: any(a.data == b"unchecked" for a in self.lab.listeners.arrivals), 20, "unchecked UDP")
            self.assertTrue(self.guest.is_deaf(), "the stranger's answer stays out")
        self.lab.forget()
        for item in crafted():
            if item.code in ("vlan", "fragment", "ip_options", "malformed", "source_mac_spoofed", "source_ip_spoofed",
                             "protocol_not_allowed", "ipv6"):
                self.guest.send_raw(item.frame)
        self.assert_works()
        self.assert_nothing_leaked(0)
        self.assertEqual([], self.lab.arrived())


class Terminates(NatCase):
    """The first attack ends it: exit code 3, and nothing passes any more."""

    attacks = (("another destination", frames.udp_packet((GUEST, 40000), (WEB, PORT), b"x")),
               ("another port", frames.udp_packet((GUEST, 40000), (CONSUMER, CONSUMER_PORT), b"x")),
               ("another protocol", frames.tcp_syn((GUEST, 40000), ALLOWED)),
               ("another's address", frames.udp_packet(("192.168.64.77", 40000), ALLOWED, b"x")))

    def check(self, packet):
        """Break the promise, and try to go on."""
        self.assert_works()
        self.guest.send(frames.ipv4(GUEST, CONSUMER, frames.UDP, b"broken"))  # a broken driver is not an attack
        self.assert_works()
        self.guest.send(packet)
        try:
            for _ in range(200):
                self.guest.send_udp(b"too late")
        except OSError:
            pass  # the NAT has ended already
        self.assertEqual(3, self.process.wait(5))
        self.assertFalse(select.select([self.consumer], [], [], 0.2)[0], "nothing passed after it")
        told = [report["violation"] for report in self.reports() if report["report"] == "violation"]
        self.assertEqual(["terminated"], [item["verdict"] for item in told if item["code"] != "malformed"])
        self.assertEqual(self.reports()[-1]["report"], "ended")
        self.assert_nothing_leaked(self.before)


class TerminatesConntrack(Terminates):
    """By default."""

    mode = "conntrack"

    def test_another_destination(self):
        self.check(self.attacks[0][1])

    def test_another_port(self):
        self.check(self.attacks[1][1])

    def test_another_protocol(self):
        self.check(self.attacks[2][1])

    def test_another_s_address(self):
        self.check(self.attacks[3][1])


class TerminatesSampled(TerminatesConntrack):
    """Whatever is drawn."""

    mode = "sampled"
    options = ("--sampling-rate", "1")


class TerminatesFiltered(TerminatesConntrack):
    """Where it is asked for."""

    mode = "filtered"
    options = ("--on-violation", "terminate")
