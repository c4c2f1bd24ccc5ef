"""`omertad nat --framing stream`: frames behind their lengths, as QEMU's `-netdev stream` has them."""

import select
import socket
import struct
import subprocess

import frames
from case import wait_for
from lab import WEB
from nat_case import ALLOWED, GATEWAY, GUEST, GUEST_MAC, PORT, NatCase, StreamGuest


class NatStream(NatCase):
    """The promises of `filtered` hold whatever the framing."""

    options = ("--framing", "stream", "--busy-poll-us", "50")
    guest_class = StreamGuest

    def test_allowed_udp_passes_byte_for_byte_both_ways(self):
        for size in (0, 1, 148, 1471, 1472):
            data = bytes((7 * i + size) % 256 for i in range(size))
            self.guest.send_udp(data)
            there, source = self.heard()
            self.assertEqual(data, there)
            self.consumer.sendto(data[::-1], source)
            frame = self.guest.receive()
            self.assertEqual((PORT, 40000), struct.unpack_from("!HH", frame, 34))
            self.assertEqual(data[::-1], frame[42:])
        self.assertEqual([], [str(leak) for leak in self.lab.oracle.leaks(self.before)])

    def test_arp_for_the_gateway_is_answered(self):
        self.guest.send(frames.arp(1, GUEST_MAC, GUEST, bytes(6), GATEWAY), 0x0806)
        self.assertEqual(socket.inet_aton(GATEWAY), self.guest.receive()[28:32])

    def test_everything_else_is_dropped_and_reported(self):
        self.guest.send_udp(b"x", (WEB, PORT))
        self.expect("destination_not_allowed")
        self.guest.send_raw(bytes(9014))
        self.expect("malformed")
        self.assert_works()
        self.assert_nothing_leaked(self.before)

    def test_a_frame_in_pieces_is_a_frame(self):
        packet = frames.ethernet(frames.BROADCAST, GUEST_MAC, 0x0800, frames.udp_packet((GUEST, 40000), ALLOWED, b"slow"))
        for byte in struct.pack("!I", len(packet)) + packet:
            self.guest.send_bytes(bytes((byte,)))
        self.assertEqual(b"slow", self.heard()[0])

    def test_a_length_that_no_frame_has_ends_it_with_a_report(self):
        self.assert_works()
        self.guest.send_bytes(b"\xff\xff\xff\xff")
        self.assertEqual(1, self.process.wait(10))
        self.assertIn("failed", {report["report"] for report in self.reports()})
        self.assertFalse(self.path.exists())

    def test_it_ends_in_good_order_when_the_vm_closes(self):
        self.assert_works()
        self.guest.close()
        self.assertEqual(0, self.process.wait(10))
        wait_for(lambda: self.reports()[-1]["report"] == "ended", 20, "the last report")
        self.assertIn("detached", {report["report"] for report in self.reports()})

    def test_bad_options_exit_2_and_name_the_option(self):
        allow = ("--mode", "filtered", "--allow", "1.2.3.4:5")
        path = self.folder / "other.sock"
        for arguments, word in ((("--listen", path, "--framing", "packets"), "--framing"),
                                (("--listen", path, "--peer", path, "--framing", "stream"), "--peer"),
                                (("--listen", path, "--busy-poll-us", "1001"), "--busy-poll-us"),
                                (("--framing", "stream"), "--listen")):
            with self.subTest(" ".join(map(str, arguments))):
                done = self.home.run("nat", *arguments, *allow)
                self.assertEqual(2, done.returncode, done.stderr)
                self.assertIn(word, done.stderr)

    def test_it_connects_to_a_vm_that_listens(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            path = self.folder / "vm.sock"
            listener.bind(str(path))
            path.chmod(0o777)
            listener.listen()
            process = self.lab.prov.start(*self.home.command("nat", "--peer", path, "--framing", "stream", "--mode", "filtered",
                                                             "--allow", f"{ALLOWED[0]}:{ALLOWED[1]}"),
                                          stdout=subprocess.DEVNULL, env=self.home.environment)
            self.addCleanup(process.wait)
            self.addCleanup(process.kill)
            listener.settimeout(5)
            with listener.accept()[0] as vm:
                packet = frames.ethernet(frames.BROADCAST, GUEST_MAC, 0x0800,
                                         frames.udp_packet((GUEST, 40000), ALLOWED, b"connected"))
                # The gate may open only after the first frame has come: what a guest loses, it sends again.
                wait_for(lambda: vm.sendall(struct.pack("!I", len(packet)) + packet) or
                         select.select([self.consumer], [], [], 0.1)[0], 20, "a frame passes")
                self.assertEqual(b"connected", self.heard()[0])
            self.assertEqual(0, process.wait(10))
