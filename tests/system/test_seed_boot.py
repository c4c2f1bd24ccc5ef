"""The specification's table of boot isolation, row by row: all that a VM sends from power-on until its tunnel is up.

What is seen goes into the table that test_seed_tables.py prints.
"""

import re

import capture
import deb
import test_debian
from case import DaemonCase
from seed_tables import OPEN, SEEN

VNET_HEADER_BYTES = 12  # struct virtio_net_hdr_mrg_rxbuf


class BootCase(DaemonCase):
    """Everything that a VM sends from power-on, written down at its own network card by the hypervisor."""

    settings = OPEN
    packages = {}  # file name -> bytes

    def boot(self, network):
        """Boot one VM up to its tunnel. Return: what it sent and got until then"""
        folder = self.lab.folder / type(self).__name__.lower()
        self.booted = lease = self.lease(network=network)
        lease.wait_handshake()
        packets = test_debian.read_capture(folder / "runtime.pcap")
        if network["mode"] == "direct":  # a tap has the card's own header before each frame
            packets = [capture.decode(packet.frame[VNET_HEADER_BYTES:]) for packet in packets]
        return packets

    @classmethod
    def setUpClass(cls):
        name = cls.__name__.lower()
        folder = cls.lab.folder / name
        qemu = folder / "qemu-system-capturing"
        paths = {"paths": {"packages": str(folder / "packages")}} if cls.packages else {}
        cls.daemon = cls.lab.daemon(name, {**cls.settings, **paths, "hypervisor": {"qemu": str(qemu)}})
        for file, content in cls.packages.items():
            (folder / "packages").mkdir(exist_ok=True)
            (folder / "packages" / file).write_bytes(content)
        qemu.write_text(test_debian.CAPTURING_QEMU.format(file=folder / "runtime.pcap"), encoding="ascii")
        qemu.chmod(0o755)
        cls.lab.user.give(folder)
        cls.daemon.start()
        cls.client = cls.daemon.client()

    def check(self, network, row):
        """Nothing but ARP, DHCP and WireGuard to the consumer."""
        consumer = self.lab.consumer(0)
        packets = self.boot(network)
        strange = [str(packet) for packet in packets
                   if not test_debian.is_expected(packet, (consumer.ip, consumer.port))]
        self.assertEqual([], strange)
        self.assertTrue(any(test_debian.is_initiation(packet) for packet in packets), "the capture is not blind")
        udp = [packet for packet in packets if packet.protocol == capture.UDP]
        kinds = {"ARP": sum(packet.ethertype == capture.ETH_P_ARP for packet in packets),
                 "DHCP": sum(packet.destination[1] in (67, 68) for packet in udp)}
        kinds["WireGuard"] = len(packets) - sum(kinds.values())
        SEEN.note("boot isolation", row, network["mode"], "power-on to tunnel: " +
                  ", ".join(f"{count} {kind}" for kind, count in kinds.items()) + f", {len(strange)} other packets")


class BootPrebuilt(BootCase):
    """The image has what it needs."""

    def test_filtered(self):
        self.check({"mode": "filtered", "boot_isolation": "prebuilt"}, "Pre-built image")

    def test_online_install_is_refused(self):
        for mode in ("filtered", "direct"):
            body = self.lab.request(self.lab.consumer(0), network={"mode": mode, "boot_isolation": "online_install"})
            answer = self.client.request("POST", "/v1/leases", body)
            self.assertEqual("online-install-not-allowed", answer.slug)
            SEEN.note("boot isolation", "Online install", mode,
                      f"refused: {answer.status} {answer.slug}, unless direct and allowed by the configuration")


class BootDirect(BootCase):
    """The same without a NAT of the provider."""

    def test_direct(self):
        self.check({"mode": "direct", "boot_isolation": "prebuilt"}, "Pre-built image")


class BootOffline(BootCase):
    """Packages come in the seed volume: this one says what network there was when it was installed."""

    packages = {"omertad-note_1_all.deb": deb.package(
        "omertad-note", {"usr/share/omertad-note": b"from the seed volume\n"},
        "#!/bin/sh\necho omertad-note: installed, network: $(ls /sys/class/net) >/dev/console\n")}

    def test_filtered(self):
        self.check({"mode": "filtered", "boot_isolation": "offline_packages"}, "Offline packages")
        lines = re.findall(r"(omertad-note: .*?|omertad-guest: (?:firewall|network) up)\r?\n", self.booted.console())
        self.assertEqual(["omertad-note: installed, network: lo", "omertad-guest: firewall up",
                          "omertad-guest: network up"], lines)
        shell = self.booted.shell()
        self.addCleanup(shell.close)
        code, output = shell.run("cat /usr/share/omertad-note")
        self.assertEqual((0, "from the seed volume"), (code, output.strip()))
