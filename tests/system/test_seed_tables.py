"""The tables of the specification, row by row, with real VMs. What was seen is printed at the end as a table.

The oracle is the capture outside of the VM, on the provider's uplink and loopback, together with the services of the
world and of the provider, which write down who reached them.
"""

import random
import socket
import time

import capture
import frames
import guest
from case import DaemonCase, LabCase, wait_for
from lab import CONSUMER, INTERNET, LAN_HOST, PROVIDER, STRANGER, WEB
from nat_case import Recorder
from seed_tables import OPEN, SEEN

LIMITED_BITS = 400_000
BURST_BITS = 16 * 1500 * 8  # what a full bucket lets pass at once


def tearDownModule():
    """The table, if any of it was walked."""
    if SEEN:
        SEEN.print()


class TablesCase(DaemonCase):
    """One VM with a second one beside it, and a capture that remembers every packet of the uplink."""

    settings = OPEN
    mode = None
    network = None
    table = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.addClassCleanup(cls.lab.forget)  # what direct mode lets out is no leak of the next test
        cls.addClassCleanup(cls.daemon.stop)  # also when what follows fails
        cls.recorder = Recorder()
        cls.wire = capture.Oracle(cls.lab.prov, ["up0"], cls.recorder).start()
        cls.addClassCleanup(cls.wire.stop)
        cls.consumer = cls.lab.consumer(0)
        cls.lease = cls.lab.lease(cls.daemon, 0, network={"mode": cls.mode, **(cls.network or {})}, **cls.extra())
        cls.neighbour = cls.lab.lease(cls.daemon, 1, network={"mode": cls.mode, **(cls.network or {})}, **cls.extra())
        cls.lease.wait_handshake()
        cls.neighbour.wait_handshake()
        cls.shell = cls.lease.shell()
        cls.addClassCleanup(cls.shell.close)
        cls.tries = {attack.name: attack for attack in cls.lab.attacks(cls.consumer)}

    @classmethod
    def extra(cls):
        """More members of the lease request."""
        return {"on_violation": "drop"}

    def note(self, kind, row, sentence):
        """Fill a cell of the table of this kind."""
        SEEN.note(f"{kind}, {self.table}", row, self.mode, sentence)

    def pick(self, *beginnings):
        """Attacks whose name begins so."""
        return [attack for name, attack in self.tries.items() if name.startswith(beginnings)]

    def attempt(self, tries):
        """Run attacks in the VM. Return: (names that were answered, packets outside that must not be in filtered)"""
        self.lab.forget()
        reached = guest.run_attacks(self.shell, tries)
        return reached, [leak for leak in self.lab.oracle.leaks() if leak.outgoing or leak.interface == "lo"]

    def detour(self, *networks):
        """Routes around the tunnel for whole networks."""
        lines = "\n".join(f"ip route replace {net} via {guest.GATEWAY} dev eth0" for net in networks)
        self.assertEqual(0, self.shell.run(lines)[0])

    def tunnel_ports(self):
        """Local ports from which WireGuard goes to the consumer."""
        to = (self.consumer.ip, self.consumer.port)
        return sorted({packet.source[1] for packet in self.recorder.packets
                       if packet.outgoing and packet.protocol == capture.UDP and packet.destination == to})

    def received_by_guest(self):
        """Packets that came in at the VM's network card, as the VM counts them."""
        code, output = self.shell.run("cat /sys/class/net/eth0/statistics/rx_packets")
        self.assertEqual(0, code, output)
        return int(output)

    # ---- rows that are the same in all modes

    def check_tunnel(self):
        """The consumer's row: the tunnel carries both ways, and it is on the wire."""
        self.assertTrue(self.consumer.pings(self.lease.vm_ip, 3))
        self.wire.settle()
        to = (self.consumer.ip, self.consumer.port)
        count = sum(packet.destination == to for packet in self.recorder.packets if packet.outgoing)
        self.assertGreater(count, 3)
        self.note("access", "Consumer WireGuard", 
                  f"tunnel up, 3 of 3 pings answered, {count} packets to {self.consumer.endpoint}")

    def check_hidden(self):
        """What the VM reaches in the world, it reaches from the consumer's end of the tunnel."""
        before = len(self.lab.listeners.arrivals)
        code, output = self.shell.run(f"nc -w 5 {WEB} 80 </dev/null")
        self.assertEqual(0, code, output)
        self.assertIn("hi", output)
        sources = {arrival.source[0] for arrival in self.lab.listeners.arrivals[before:]
                   if arrival.destination[0] == WEB and not arrival.source[0].startswith(self.neighbour.vm_ip)}
        self.assertEqual({self.lease.vm_ip}, sources)
        self.note("guarantees", "Provider IP hidden",
                  f"{WEB} was reached through the tunnel and saw {self.lease.vm_ip}, not {PROVIDER}")

    def check_inbound(self):
        """Strangers send to the very ports the tunnel uses, and to the VM's services through the provider."""
        ports = self.tunnel_ports()
        self.assertTrue(ports)
        before, sent = self.received_by_guest(), 0
        with self.lab.world.socket(kind=socket.SOCK_RAW, protocol=socket.IPPROTO_RAW) as sender:
            for source in ((STRANGER, self.consumer.port), (CONSUMER, 51901), (LAN_HOST, 53)):
                for port in ports:
                    for _ in range(300):
                        sender.sendto(frames.udp_packet(source, (PROVIDER, port), b"\4" + bytes(31)), (PROVIDER, 0))
                        sent += 1
        with self.lab.world.socket(kind=socket.SOCK_STREAM) as caller:
            caller.settimeout(2)
            with self.assertRaises(OSError):
                caller.connect((PROVIDER, 22))
        # The SSH session that asks has a few packets of its own; the strangers' would come on top of them.
        arrived = self.received_by_guest() - before
        self.assertLess(arrived, 40)
        self.lab.forget()
        self.note("attacks", "Malicious inbound traffic",
                  f"{sent} datagrams of strangers to the tunnel's own ports and TCP to port 22; meanwhile the VM's "
                  f"card counted {arrived} packets, its own session's")


class FilteredTables(TablesCase):
    """Provider-enforced: whatever root does in the VM."""

    mode = table = "filtered"

    def closed(self, kind, row, tries, code=None):
        """Nothing answers, nothing is seen outside, and the provider says what it was."""
        reached, outside = self.attempt(tries)
        self.assertEqual(([], []), (reached, [str(leak) for leak in outside]))
        self.assertEqual([], self.lab.arrived())
        for attack in tries:
            if attack.code:
                wait_for(lambda a=attack: any(a.matches(item) for item in self.lease.violations()), 5,
                         f"{attack.name}: {attack.code}")
        codes = sorted({attack.code for attack in tries if attack.code} | ({code} if code else set()))
        self.note(kind, row, f"{len(tries)} tries, 0 answers, 0 packets outside; {', '.join(codes) or 'dropped'}")

    def test_01_consumer_wireguard(self):
        self.check_tunnel()

    def test_02_provider_ip_hidden(self):
        self.check_hidden()

    def test_03_vm_disables_iptables(self):
        """From here on the VM has no firewall of its own."""
        targets = guest.detour_targets(list(self.tries.values()))
        guest.drop_firewall(self.shell, targets | {self.neighbour.vm_ip, self.neighbour.consumer.tunnel_ip})
        self.closed("attacks", "VM disables iptables", self.pick("internet", "provider LAN by"))

    def test_04_consumer_other_ports(self):
        self.closed("access", "Consumer other ports", self.pick("another port", "consumer", "the tunnel's own"))

    def test_05_internet(self):
        self.closed("access", "Internet", self.pick("internet"))
        self.note("guarantees", "Internet access blocked", "root, firewall off: 0 packets outside")

    def test_06_provider_lan(self):
        self.closed("access", "Provider LAN", self.pick("provider LAN by"))
        self.note("guarantees", "Provider LAN isolated", "root, firewall off: 0 packets outside")

    def test_07_provider_host(self):
        self.closed("access", "Provider host", self.pick("provider host", "provider LAN address", "provider localhost",
                                                         "gateway", "metadata"))

    def test_08_other_vms(self):
        ips = (self.neighbour.vm_ip, self.neighbour.consumer.tunnel_ip, "192.168.64.3")
        tries = [guest.Attack(f"neighbour {ip} by {how}", how, ip, 22 if how != "icmp" else 0)
                 for ip in ips for how in ("tcp", "udp", "icmp")]
        self.closed("access", "Other VMs", tries)
        self.assertEqual([], self.neighbour.violations())
        self.assertTrue(self.neighbour.consumer.pings(self.neighbour.vm_ip))

    def test_09_vm_spoofs_source_ip(self):
        self.closed("attacks", "VM spoofs source IP", self.pick("spoofed source", "ARP for"))

    def test_10_vm_sends_to_random_ip(self):
        chance = random.Random(64)
        ips = [f"{chance.randrange(11, 126)}.{chance.randrange(256)}.{chance.randrange(256)}.{chance.randrange(1, 255)}"
               for _ in range(6)]
        self.detour(*ips)
        tries = [guest.Attack(f"{ip} by {how}", how, ip, port, guest.FOREIGN) for ip in ips
                 for how, port in (("udp", chance.randrange(1, 65536)), ("icmp", 0))]
        self.closed("attacks", "VM sends to random IP", tries)

    def test_11_vm_scans_provider_lan(self):
        self.detour("192.168.77.0/24")
        self.lab.forget()
        script = "for i in $(seq 1 254); do ping -c 1 -W 1 192.168.77.$i >/dev/null & done; wait; echo scanned"
        self.assertIn("scanned", self.shell.run(script, limit=90)[1])
        self.assertEqual([], [str(leak) for leak in self.lab.oracle.leaks()])
        wait_for(lambda: sum(item["count"] for item in self.lease.violations() if item["code"] == guest.FOREIGN) >= 254,
                 20, "the scan in the violations")
        self.note("attacks", "VM scans provider LAN", "254 hosts, 0 packets outside; destination_not_allowed")

    def test_12_vm_tries_dns_lookup(self):
        self.closed("attacks", "VM tries DNS lookup", self.pick("internet DNS", "gateway DNS", "consumer DNS"))

    def test_13_malicious_inbound_traffic(self):
        self.check_inbound()

    def test_14_bypass_resistant(self):
        self.closed("guarantees", "Bypass-resistant", list(self.tries.values()))
        self.assertEqual("running", self.lease.read()["state"])
        self.assertTrue(self.consumer.pings(self.lease.vm_ip))


class ConntrackTables(FilteredTables):
    """The same rows where a table answers for known destinations."""

    mode = "conntrack"


class SampledTables(FilteredTables):
    """The same rows where every frame is drawn."""

    mode = "sampled"
    network = {"sampling_rate": 1}


class Bandwidth(DaemonCase):
    """Provider bandwidth protected, by numbers."""

    settings = OPEN

    def test_a_limit_holds_on_the_uplink(self):
        lease = self.lease(network={"mode": "filtered", "limits": {"egress_bits_per_s": LIMITED_BITS}})
        lease.wait_tunnel()
        shell = lease.shell()
        self.addCleanup(shell.close)
        recorder = Recorder()
        wire = capture.Oracle(self.lab.prov, ["up0"], recorder).start()
        self.addCleanup(wire.stop)
        started = time.monotonic()
        code, output = shell.run("head -c 500000 /dev/zero | tr '\\0' x", limit=90)
        self.assertEqual((0, 500000), (code, output.count("x")), "slow, but whole")
        wire.settle()
        seconds = time.monotonic() - started
        bits = sum(8 * (len(packet.frame) - 14) for packet in recorder.packets
                   if packet.outgoing and packet.protocol == capture.UDP)
        stats = self.client.get(f"{lease.path}/stats")["from_guest"]
        over = next(item["frames"] for item in stats if item["reason"] == "rate_limited")
        self.assertGreater(over, 0, "the VM tried more")
        self.assertLess(bits, LIMITED_BITS * seconds * 1.05 + BURST_BITS)
        self.assertEqual([], lease.violations())
        SEEN.note("guarantees, filtered", "Provider bandwidth protected", "filtered",
                  f"limit {LIMITED_BITS // 1000} kbit/s: {bits / seconds / 1000:.0f} kbit/s on the uplink; "
                  f"{over} packets over it dropped")


class DirectTables(TablesCase):
    """VM-enforced: what root gets when it takes the VM's firewall away, and what stays closed all the same."""

    mode = table = "direct"

    @classmethod
    def extra(cls):
        return {}

    def try_all(self, *beginnings):
        """(answered, tried, packets outside) of attacks"""
        tries = self.pick(*beginnings)
        reached, outside = self.attempt(tries)
        return reached, tries, outside

    def test_01_consumer_wireguard(self):
        self.check_tunnel()
        self.assertEqual("none", self.lease.read()["filter"]["enforcement"])

    def test_02_provider_ip_hidden(self):
        self.check_hidden()

    def test_03_the_guest_s_firewall_stands(self):
        self.detour(f"{INTERNET}/32", f"{LAN_HOST}/32")
        tries = [guest.Attack("internet", "tcp", INTERNET, 53), guest.Attack("LAN", "tcp", LAN_HOST, 80),
                 guest.Attack("internet", "udp", INTERNET, 53), guest.Attack("LAN", "icmp", LAN_HOST)]
        reached, outside = self.attempt(tries)
        self.assertEqual(([], []), (reached, [str(leak) for leak in outside]))
        self.note("guarantees", "Provider bandwidth protected", "VM's firewall up: the tunnel alone used the uplink")
        self.note("guarantees", "Provider LAN isolated", "VM's firewall up: 2 tries, 0 packets outside")
        self.note("guarantees", "Internet access blocked", "VM's firewall up: 2 tries, 0 packets outside")
        report = wait_for(lambda: next((item for item in self.lease.violations()
                                        if item["destination_ip"] == INTERNET), None), 10, "the guest's report")
        self.assertEqual(("guest_firewall", "direct", "dropped", None),
                         (report["source"], report["mode"], report["verdict"], report["evidence"]))
        self.assertIn("ROGUE-ATTEMPT", self.lease.console())

    def test_04_vm_disables_iptables(self):
        guest.drop_firewall(self.shell, guest.detour_targets(list(self.tries.values())))
        reached, tries, outside = self.try_all("internet by TCP", "internet by UDP")
        self.assertEqual({attack.name for attack in tries}, set(reached))
        self.note("attacks", "VM disables iptables",
                  f"VM can reach the internet: {len(reached)} of {len(tries)} answered, {len(outside)} packets outside")
        self.note("access", "Internet", f"firewall up: 0 packets; off: {', '.join(sorted(reached))} answered")
        self.note("guarantees", "Bypass-resistant", f"root bypassed it: {len(outside)} packets outside")

    def test_05_provider_lan(self):
        reached, tries, outside = self.try_all("provider LAN by")
        self.note("access", "Provider LAN", f"firewall up: 0 packets; off: {len(reached)} of {len(tries)} answered, "
                                            f"{len(outside)} packets outside (private ranges are closed by default)")
        self.assertEqual(([], []), (reached, [str(leak) for leak in outside]))

    def test_06_provider_localhost(self):
        reached, tries, outside = self.try_all("provider localhost", "provider host", "provider LAN address", "gateway",
                                               "metadata")
        self.assertEqual(([], []), (reached, [str(leak) for leak in outside]))
        self.assertEqual([], self.lab.services.arrivals)
        self.note("access", "Provider localhost", 
                  f"{len(tries)} tries at 127.0.0.1, the provider's addresses, the gateway and the metadata address: "
                  "0 answers, 0 packets")

    def test_07_vm_spoofs_source_ip(self):
        reached, _, outside = self.try_all("spoofed source")
        self.assertEqual(([], []), (reached, [str(leak) for leak in outside]))
        self.note("attacks", "VM spoofs source IP",
                  f"{len(outside)} packets outside: only the leased address is passed on")

    def test_08_vm_sends_to_random_ip(self):
        ip = f"93.184.{random.Random(8).randrange(256)}.7"
        self.detour(ip)
        _, outside = self.attempt([guest.Attack("random", "udp", ip, 4000), guest.Attack("random", "tcp", ip, 4000)])
        self.assertTrue(any(leak.destination == (ip, 4000) for leak in outside))
        self.note("attacks", "VM sends to random IP", f"{len(outside)} packets to {ip} on the uplink")

    def test_09_vm_scans_provider_lan(self):
        self.detour("192.168.77.0/24")
        self.lab.forget()
        script = "for i in $(seq 1 254); do ping -c 1 -W 1 192.168.77.$i >/dev/null & done; wait; echo scanned"
        self.assertIn("scanned", self.shell.run(script, limit=90)[1])
        outside = [leak for leak in self.lab.oracle.leaks() if leak.outgoing]
        self.assertEqual([], [str(leak) for leak in outside])
        self.note("attacks", "VM scans provider LAN",
                  f"254 hosts, {len(outside)} packets outside: private ranges are closed")

    def test_10_vm_tries_dns_lookup(self):
        reached, tries, outside = self.try_all("internet DNS by")
        self.assertEqual(len(tries), len(reached))
        self.note("attacks", "VM tries DNS lookup", f"{len(reached)} of {len(tries)} answered by {INTERNET}, "
                                                    f"{len(outside)} packets outside")

    def test_11_malicious_inbound_traffic(self):
        self.check_inbound()

    def test_12_the_neighbour_is_not_reached(self):
        tries = [guest.Attack(f"neighbour by {how}", how, "192.168.64.3", 22) for how in ("tcp", "udp")]
        self.assertEqual([], self.attempt(tries)[0])
        self.assertTrue(self.neighbour.consumer.pings(self.neighbour.vm_ip))

    def test_20_release_leaves_nothing(self):
        self.shell.close()
        for lease in (self.lease, self.neighbour):
            self.assertEqual(202, lease.release())
        for lease in (self.lease, self.neighbour):
            self.assertEqual("released", lease.wait_end()["reason"])
        self.assert_nothing_left()


class WholeTable(LabCase):
    """Runs last of this module: unittest takes classes by name."""

    def test_no_cell_is_empty(self):
        self.assertEqual([], SEEN.empty())
