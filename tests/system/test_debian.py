"""The production guest: Debian with the real cloud-init, leased from the daemon.

A boot takes half a minute under emulation, so `make check` leaves these out: they run when $OMERTAD_DEBIAN names the image
(and $OMERTAD_DEBIAN_BARE the one without packages), as `make check-debian` does.

What the machine sends is written down by the hypervisor itself, at the machine's own network card and from power-on.
"""

import os
import pathlib
import re
import shutil
import struct
import unittest

import capture
from case import DaemonCase, wait_for
from guest import GATEWAY
from lab import INTERNET

IMAGES = {"debian": os.environ.get("OMERTAD_DEBIAN"), "debian-bare": os.environ.get("OMERTAD_DEBIAN_BARE")}
LIMIT_BOOT = 400.0  # half a minute on a quiet machine
LIMIT_END = 60  # seconds; some on a quiet machine
GUEST_IP = "192.168.64.2"
WIREGUARD_INITIATION = (148, b"\1\0\0\0")

# The probe of the accelerator has no network card, hence the condition.
CAPTURING_QEMU = """#!/bin/sh
case $* in
*netdev=net0*) exec qemu-system-x86_64 "$@" -object filter-dump,id=capture,netdev=net0,file={file} ;;
esac
exec qemu-system-x86_64 "$@"
"""


def load_tests(loader, tests, _pattern):
    """Nothing, unless the images are named."""
    return tests if all(IMAGES.values()) else loader.suiteClass()


def read_capture(file):
    """The frames of a pcap file, oldest first; one that is still being written may end within a frame."""
    data, at, found = file.read_bytes(), 24, []
    while at + 16 <= len(data):
        length = struct.unpack_from("<I", data, at + 8)[0]
        if at + 16 + length > len(data):
            break
        found.append(capture.decode(data[at + 16:at + 16 + length]))
        at += 16 + length
    return found


def is_expected(packet, consumer):
    """ARP, DHCP with the gateway, or UDP between the guest and its consumer's WireGuard port."""
    if packet.ethertype == capture.ETH_P_ARP:
        return True
    if packet.protocol != capture.UDP:
        return False
    ends = {packet.source, packet.destination}
    return {end[1] for end in ends} == {67, 68} or \
        (consumer in ends and {end[0] for end in ends} == {GUEST_IP, consumer[0]})


def is_initiation(packet):
    """Whether this is the first message of a WireGuard handshake."""
    payload = packet.frame[42:]
    return packet.protocol == capture.UDP and (len(payload), payload[:4]) == WIREGUARD_INITIATION


class DebianCase(DaemonCase):
    """One lease of one image, up to its tunnel."""

    image = None
    network = {"mode": "filtered"}
    user = "root"

    @classmethod
    def setUpClass(cls):
        name, source = cls.__name__.lower(), pathlib.Path(IMAGES[cls.image])
        folder = cls.lab.folder / name
        qemu, cls.capture_file = folder / "qemu-system-capturing", folder / "runtime.pcap"
        settings = {"hypervisor": {"qemu": str(qemu), "powerdownMs": 1000 * LIMIT_END}, "tunnel": {"timeoutS": int(LIMIT_BOOT)},
                    "capacity": {"diskMib": 8192}}
        if cls.network.get("boot_isolation") == "offline_packages":
            settings["paths"] = {"packages": str(folder / "packages")}
        cls.daemon = cls.lab.daemon(name, settings, image=False)
        if (source / "packages").exists():
            shutil.copytree(source / "packages", folder / "packages")
        shutil.copytree(source, cls.daemon.images / cls.image, ignore=shutil.ignore_patterns("packages"))
        qemu.write_text(CAPTURING_QEMU.format(file=cls.capture_file), encoding="ascii")
        qemu.chmod(0o755)
        cls.lab.user.give(folder)
        cls.addClassCleanup(cls.daemon.stop)  # also after a boot that failed
        cls.daemon.start()
        cls.client = cls.daemon.client()
        cls.before = cls.lab.oracle.mark()
        cls.consumer = cls.lab.consumer(0)
        key = cls.lab.ssh_key.with_suffix(".pub").read_text(encoding="ascii").strip()
        cls.lease = cls.lab.lease(cls.daemon, 0, image=cls.image, network=cls.network,
                                  resources={"vcpus": 2, "memory_mib": 512, "disk_mib": 0},
                                  ssh={"user": cls.user, "authorized_keys": [key]})
        cls.lease.wait_tunnel(LIMIT_BOOT)
        cls.until_tunnel = read_capture(cls.capture_file)
        wait_for(lambda: "omertad-guest: ready" in cls.lease.console(), LIMIT_BOOT, "ready line")

    def check_capture(self):
        """From power-on to the tunnel: nothing but ARP, DHCP and WireGuard, and not by blindness."""
        consumer = (self.consumer.ip, self.consumer.port)
        strange = [str(packet) for packet in self.until_tunnel if not is_expected(packet, consumer)]
        self.assertEqual([], strange)
        self.assertTrue(any(is_initiation(packet) for packet in self.until_tunnel))
        self.assertEqual([], [violation["code"] for violation in self.lease.violations()])
        self.assert_nothing_leaked(self.before)

    def check_console_order(self):
        """Firewall, tunnel, ready."""
        lines = re.findall(r"omertad-guest: (firewall up|tunnel configured|ready|failed.*?)\r?\n", self.lease.console())
        self.assertEqual(["firewall up", "tunnel configured", "ready"], lines)

    def check_end(self):
        """The power button ends the machine, and nothing of it is left."""
        self.assertEqual(202, self.lease.release())
        self.assertEqual("released", self.lease.wait_end(LIMIT_END + 20)["reason"])
        self.assertIn("reboot: Power down", self.lease.console())
        self.assert_nothing_left()

    def ssh(self, command, *options, user=None):
        """One SSH session through the tunnel. Return: subprocess.CompletedProcess"""
        return self.lab.world.run(
            "ssh", "-T", "-F", "none", "-i", self.lab.ssh_key, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
            "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", *options,
            f"{user or self.user}@{self.lease.vm_ip}", command, check=False, timeout=60)


class DebianPrebuilt(DebianCase):
    """The image that has its packages."""

    image = "debian"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.shell = cls.lease.shell(LIMIT_END)

    @classmethod
    def tearDownClass(cls):
        cls.shell.close()
        super().tearDownClass()

    def run_in_guest(self, script, limit=60.0):
        """Output of a script that must succeed."""
        code, output = self.shell.run(script, limit)
        self.assertEqual(0, code, output)
        return output

    def moment(self, unit, name):
        """A monotonic time of a unit, in microseconds."""
        return int(self.run_in_guest(f"systemctl show --value -p {name} {unit}"))

    def test_01_the_tunnel_carries_ping_and_ssh(self):
        self.assertGreater(self.consumer.handshake_at(self.lease.vm_key), 0)
        self.assertTrue(self.consumer.pings(self.lease.vm_ip, 3))
        self.assertEqual("root", self.run_in_guest("id -un"))
        self.assertEqual(f"vm-{self.lease.id[:8]}", self.run_in_guest("hostname"))

    def test_02_nothing_but_arp_dhcp_and_wireguard_until_the_tunnel_is_up(self):
        self.check_capture()

    def test_03_console_says_firewall_then_tunnel_then_ready(self):
        self.check_console_order()

    def test_04_default_drop_stood_before_cloud_init_and_the_network(self):
        dropped = self.moment("omertad-firewall", "ActiveEnterTimestampMonotonic")
        cloud_init = self.moment("cloud-init-local", "ExecMainStartTimestampMonotonic")
        gate = self.moment("omertad-gate", "ActiveEnterTimestampMonotonic")
        network = self.moment("systemd-networkd", "ExecMainStartTimestampMonotonic")
        self.assertGreater(dropped, 0)
        self.assertEqual(sorted([dropped, cloud_init, gate, network]), [dropped, cloud_init, gate, network])
        link_up = self.run_in_guest("journalctl -b -o short-monotonic --no-pager -u systemd-networkd | "
                                    "grep -m 1 'eth0: Link UP'")
        self.assertGreater(float(re.match(r"\[\s*([\d.]+)\]", link_up).group(1)) * 1e6, gate)

    def test_05_the_seed_s_firewall_is_in_force(self):
        rules = self.run_in_guest("iptables -S").splitlines()
        self.assertEqual(["-P INPUT DROP", "-P FORWARD DROP", "-P OUTPUT DROP"], rules[:3])
        consumer = self.consumer
        self.assertIn(f"-A OUTPUT -d {consumer.ip}/32 -o eth0 -p udp -m udp --dport {consumer.port} -j ACCEPT", rules)
        self.assertEqual("no", self.run_in_guest("[ -e /proc/net/if_inet6 ] && echo yes || echo no"))

    def test_06_cloud_init_is_done_and_no_unit_failed(self):
        output = self.run_in_guest("cloud-init status --wait --long", limit=120)
        self.assertIn("status: done", output)
        self.assertIn("dsmode=local", output)
        self.assertEqual("", self.run_in_guest("systemctl --failed --no-legend --plain"))
        self.assertIn(self.consumer.public_key, self.run_in_guest("wg show wg0 peers"))

    def test_07_no_password_opens_it(self):
        self.assertIn("passwordauthentication no", self.run_in_guest("sshd -T").splitlines())
        refused = self.ssh("true", "-o", "PubkeyAuthentication=no")
        self.assertEqual(255, refused.returncode)
        self.assertNotIn("password", refused.stderr)
        self.assertEqual("", self.run_in_guest("awk -F: '$2 !~ /^[!*]/' /etc/shadow"))

    def test_08_its_own_host_key_is_on_the_console(self):
        key = self.run_in_guest("cut -d ' ' -f 1,2 /etc/ssh/ssh_host_ed25519_key.pub")
        self.assertIn(f"omertad-guest: host key {key}", self.lease.console())
        self.assertEqual("/etc/ssh/ssh_host_ed25519_key", self.run_in_guest("ls /etc/ssh/ssh_host_*_key"))

    def test_09_what_its_firewall_blocks_is_reported(self):
        code, _ = self.shell.run(f"ip route replace {INTERNET}/32 via {GATEWAY} dev eth0 && "
                                 f"bash -c 'echo blocked >/dev/udp/{INTERNET}/53'")
        self.assertNotEqual(0, code)
        wait_for(lambda: "ROGUE-ATTEMPT" in self.lease.console(), 10, "ROGUE-ATTEMPT on the console")
        report = wait_for(self.lease.violations, 10, "the guest's report")[0]
        self.assertEqual(("guest_firewall", INTERNET, 53),
                         (report["source"], report["destination_ip"], report["destination_port"]))
        self.assertFalse(any(packet.destination == (INTERNET, 53) for packet in read_capture(self.capture_file)))

    def test_10_the_capture_sees_what_the_provider_stops(self):
        self.run_in_guest("iptables -P OUTPUT ACCEPT; iptables -F OUTPUT; "
                          f"bash -c 'echo free >/dev/udp/{INTERNET}/53'")
        wait_for(lambda: any(packet.destination == (INTERNET, 53) for packet in read_capture(self.capture_file)),
                 10, "the datagram at the network card")
        wait_for(lambda: any(item["source"] == "filter" for item in self.lease.violations()), 10, "a violation")
        self.assert_nothing_leaked(self.before)

    def test_20_release_ends_it_by_the_power_button(self):
        self.check_end()


class DebianOffline(DebianCase):
    """The image without packages: they come in the seed volume. For a tenant who is not root."""

    image = "debian-bare"
    network = {"mode": "filtered", "boot_isolation": "offline_packages"}
    user = "tenant"

    def test_01_the_machine_installed_its_packages(self):
        names = {path.name.partition("_")[0] for path in (self.daemon.folder / "packages").iterdir()}
        self.assertLessEqual({"wireguard-tools", "iptables"}, names)
        installed = self.ssh("grep -c ' install wireguard-tools\\| install iptables' /var/log/dpkg.log")
        self.assertEqual("2\n", installed.stdout, installed.stderr)

    def test_02_nothing_but_arp_dhcp_and_wireguard_until_the_tunnel_is_up(self):
        self.check_capture()

    def test_03_console_says_firewall_then_tunnel_then_ready(self):
        self.check_console_order()

    def test_04_the_tenant_logs_in_and_is_not_root(self):
        self.assertTrue(self.consumer.pings(self.lease.vm_ip, 3))
        self.assertEqual("tenant\n", self.ssh("id -un").stdout)
        self.assertNotEqual(0, self.ssh("true", user="root").returncode)
        self.assertNotEqual(0, self.ssh("cat /etc/wireguard/wg0.conf").returncode)

    def test_20_release_ends_it_by_the_power_button(self):
        self.check_end()


if __name__ == "__main__":
    unittest.main()
