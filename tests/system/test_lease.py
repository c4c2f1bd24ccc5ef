"""First light: one lease from the request to its end, and everything a hostile tenant tries in between."""

import base64
import re
import socket
import time

import frames
import guest
import sse
from case import DaemonCase, wait_for
from lab import CONSUMER, LAN_HOST, PROVIDER, STRANGER

STATES = ["pending", "preparing", "starting", "running", "stopping", "terminated"]


class FirstLight(DaemonCase):
    """One VM, leased once. The tests run in the order of their numbers, as a lease goes."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.descriptors = cls.daemon.descriptors()
        cls.before = cls.lab.oracle.mark()
        cls.consumer = cls.lab.consumer(0)
        body = cls.lab.request(cls.consumer, labels={"job": "first-light"},
                               resources={"vcpus": 1, "memory_mib": 128, "disk_mib": 16})
        started = time.monotonic()
        cls.answer = cls.client.request("POST", "/v1/leases", body)
        cls.answered_after_s = time.monotonic() - started
        cls.lease = cls.lab.adopt(cls.daemon, cls.consumer, cls.answer)
        cls.established = cls.lease.wait_tunnel()
        cls.established_after_s = time.monotonic() - started
        cls.shell = cls.lease.shell()

    @classmethod
    def tearDownClass(cls):
        cls.shell.close()
        super().tearDownClass()

    def test_01_the_answer_is_202_with_location_and_the_vm_s_key(self):
        self.assertEqual(202, self.answer.status)
        document = self.answer.json
        self.assertEqual(f"/v1/leases/{document['id']}", self.answer.headers["Location"])
        self.assertRegex(document["id"], r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
        self.assertRegex(document["vm"]["public_key"], r"^[A-Za-z0-9+/]{43}=$")
        self.assertIn(document["state"], ("pending", "preparing"))
        self.assertEqual("filtered", document["network"]["mode"])
        self.assertEqual("192.168.64.2", document["network"]["guest_ip"])
        self.assertEqual({"job": "first-light"}, document["labels"])
        self.assertNotIn("private_key", self.answer.body.decode())

    def test_01_the_answer_does_not_wait_for_the_vm(self):
        self.assertLess(self.answered_after_s, self.established_after_s / 2)

    def test_02_the_tunnel_is_established_on_both_ends(self):
        self.assertEqual("running", self.established["state"])
        self.assertRegex(self.established["tunnel"]["established_at"], r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertGreater(self.consumer.handshake_at(self.lease.vm_key), 0)
        filtering = self.established["filter"]
        self.assertEqual(filtering["desired_generation"], filtering["observed_generation"])
        self.assertEqual("inactive", filtering["kernel_filter"])  # at rest every frame is seen

    def test_03_states_follow_each_other_in_the_events(self):
        changes = [event["data"]["to"] for event in self.lease.events() if event["type"] == "lease.state_changed"]
        self.assertEqual(STATES[1:4], changes)
        types = [event["type"] for event in self.lease.events()]
        self.assertEqual("lease.created", types[0])
        self.assertLess(types.index("filter.armed"), types.index("tunnel.established"))
        sequences = [event["sequence"] for event in self.lease.events()]
        self.assertEqual(sorted(set(sequences)), sequences)

    def test_04_ping_and_ssh_pass_the_tunnel_both_ways(self):
        self.assertTrue(self.consumer.pings(self.lease.vm_ip, 3))
        self.assertEqual((0, "hello"), self.shell.run("echo hello"))
        peer = self.consumer.tunnel_ip
        code, output = self.shell.run(f"ping -c 1 -W 5 {peer} && nc -w 5 {peer} 80 </dev/null")
        self.assertEqual(0, code, output)
        self.assertIn("hi", output)
        self.assertTrue(self.lab.listeners.through_tunnel(self.lease.vm_ip))

    def test_05_a_megabyte_arrives_whole_through_the_tunnel(self):
        code, output = self.shell.run("head -c 1000000 /dev/zero | tr '\\0' x", limit=60)
        self.assertEqual((0, 1000000), (code, output.count("x")))

    def test_05_the_disk_is_there_and_takes_what_is_written(self):
        code, output = self.shell.run("for disk in /sys/block/vd*; do echo ${disk##*/} $(cat $disk/size); done")
        self.assertEqual(0, code)
        disk = next(line.split()[0] for line in output.splitlines() if line.endswith(" 32768"))
        code, output = self.shell.run(f"echo kept | dd of=/dev/{disk} conv=fsync 2>/dev/null && head -c 4 /dev/{disk}")
        self.assertEqual((0, "kept"), (code, output))

    def test_06_peers_show_the_tunnel(self):
        peer = next(item for item in self.client.items("/v1/peers") if item["public_key"] == self.consumer.public_key)
        self.assertEqual("established", peer["tunnel"]["state"])
        self.assertEqual(self.lease.id, peer["lease_id"])
        self.assertEqual(self.consumer.endpoint, peer["endpoint"])

    def test_07_stats_move(self):
        before = self.lease.counters()
        self.assertTrue(self.consumer.pings(self.lease.vm_ip, 3))
        for name in ("allowed", "delivered"):  # each is counted a moment after it was sent
            wait_for(lambda n=name: self.lease.counters()[n] >= before[n] + 3, 20, f"three more {name}")

    def test_08_the_console_shows_the_boot(self):
        console = self.lease.console()
        for line in ("firewall up", "network up", "tunnel configured", "ready"):
            self.assertIn(f"omertad-guest: {line}", console)
        self.assertLess(console.index("firewall up"), console.index("network up"))

    def test_08_ranges_of_the_console_are_what_the_whole_has_there(self):
        path = f"{self.lease.path}/console"
        whole = self.client.request("GET", path)
        self.assertEqual(("bytes", "0"), (whole.headers["Accept-Ranges"], whole.headers["Omertad-Console-Offset"]))
        end = len(whole.body)
        for asked, part in (("bytes=10-19", slice(10, 20)), ("bytes=0-0", slice(0, 1))):
            answer = self.client.request("GET", path, headers={"Range": asked})
            self.assertEqual((206, whole.body[part]), (answer.status, answer.body))
            self.assertRegex(answer.headers["Content-Range"], rf"^bytes {part.start}-{part.stop - 1}/\d+$")
        answer = self.client.request("GET", path, headers={"Range": f"bytes={end - 5}-"})
        self.assertEqual((206, True), (answer.status, answer.body.startswith(whole.body[-5:])))
        answer = self.client.request("GET", path, headers={"Range": "bytes=90000000-"})
        self.assertEqual((416, "range-not-satisfiable"), (answer.status, answer.slug))
        self.assertRegex(answer.headers["Content-Range"], r"^bytes \*/\d+$")
        answer = self.client.request("GET", path, headers={"Range": "bytes=1-2,4-5"})
        self.assertEqual((400, "bad-request"), (answer.status, answer.slug))

    def test_08_a_follower_of_the_console_is_told_what_is_printed(self):
        whole = self.client.request("GET", f"{self.lease.path}/console").body
        with self.follow_console() as follower:
            told = self.text_of(follower.frames(limit=5, until=lambda frame: int(frame.id) >= len(whole)))
            self.assertTrue(told.startswith(whole))
            self.shell.run("echo followed-$((40 + 2)) > /dev/console")
            frames = follower.frames(limit=10, until=lambda frame: b"followed-42" in self.text_of([frame]))
            self.assertIn(b"followed-42", self.text_of(frames))
            place = frames[0].data["offset"]
        with self.follow_console({"Last-Event-ID": str(place)}) as follower:
            self.assertEqual(place, follower.frames(1)[0].data["offset"])
        with self.follow_console({"Last-Event-ID": "90000000"}) as follower:  # of a daemon that is no more
            gap, frame = follower.frames(2)
            self.assertEqual(("stream.gap", None), (gap.event, gap.data["first_missing"]))
            self.assertEqual(0, frame.data["offset"])
        with self.follow_console({"Last-Event-ID": "x"}) as follower:
            self.assertEqual(400, follower.status)

    def follow_console(self, headers=None):
        """A stream of the lease's console."""
        return sse.Follower(sse.unix_opener(self.daemon.socket), f"{self.lease.path}/console", headers)

    @staticmethod
    def text_of(frames):
        """What frames of a console's stream say, after it was seen that they follow each other."""
        text, place = b"", frames[0].data["offset"]
        for frame in frames:
            assert (frame.event, frame.data["offset"]) == ("console.output", place), frame
            text += base64.b64decode(frame.data["base64"])
            place = int(frame.id)
        return text

    def test_09_the_guest_has_its_own_firewall_and_reports(self):
        code, _ = self.shell.run("ip route add 8.8.8.8/32 via 192.168.64.1 dev eth0 && ping -c 1 -W 1 8.8.8.8")
        self.assertNotEqual(0, code)
        wait_for(lambda: "ROGUE-ATTEMPT" in self.lease.console(), 20, "ROGUE-ATTEMPT on the console")

    def test_10_whatever_the_guest_tries_nothing_gets_out(self):
        """The guest's own firewall is gone from here on: only the provider stands between it and the world."""
        tries = self.lab.attacks(self.consumer)
        guest.drop_firewall(self.shell, guest.detour_targets(tries))
        reached = guest.run_attacks(self.shell, tries)
        self.assertEqual([], reached)
        self.assert_nothing_leaked(self.before)
        self.assertEqual([], self.lab.arrived())
        for attack in tries:
            if attack.code:
                with self.subTest(attack.name):
                    wait_for(lambda a=attack: self._is_reported(a), 20, f"{attack.code} reported")

    def _is_reported(self, attack):
        return any(attack.matches(item) and item["source"] == "filter" for item in self.lease.violations())

    def test_11_violations_say_what_happened(self):
        violations = self.lease.violations()
        for violation in violations:
            self.assertEqual((self.lease.id, "filtered", "dropped"),
                             (violation["lease_id"], violation["mode"], violation["verdict"]))
            self.assertGreaterEqual(violation["count"], 1)
            self.assertLessEqual(violation["first_seen_at"], violation["last_seen_at"])
        one = self.client.get(f"/v1/violations/{violations[0]['id']}")
        self.assertEqual(violations[0]["id"], one["id"])
        self.assertGreaterEqual(len(self.client.items("/v1/violations?limit=2")), len(violations))
        detected = [event for event in self.lease.events() if event["type"] == "violation.detected"]
        self.assertEqual(len(violations), len(detected))

    def test_12_the_tunnel_still_works_after_all_that(self):
        self.assertTrue(self.consumer.pings(self.lease.vm_ip, 3))
        self.assertEqual((0, "still here"), self.shell.run("echo still here"))
        self.assertEqual("running", self.lease.read()["state"])

    def test_13_no_stranger_reaches_the_vm(self):
        """Datagrams to the uplink's own port, from another address and from another port of the consumer."""
        ports = self._uplink_ports()
        self.assertTrue(ports)
        before = self.lease.counters()["delivered"]
        with self.lab.world.socket(kind=socket.SOCK_RAW, protocol=socket.IPPROTO_RAW) as sender, \
                self.lab.oracle.forgiving(lambda packet: not packet.outgoing and packet.destination[1] in ports):
            for source in ((STRANGER, self.consumer.port), (CONSUMER, 51901), (LAN_HOST, 53)):
                for port in ports:
                    for _ in range(20):
                        packet = frames.udp_packet(source, (PROVIDER, port), b"\4" + bytes(31))
                        sender.sendto(packet, (PROVIDER, 0))
        # The tunnel itself may have carried a few packets meanwhile: sixty more would be the strangers'.
        self.assertLess(self.lease.counters()["delivered"] - before, 20)
        self.assert_nothing_leaked(self.before)

    def _uplink_ports(self):
        """Local ports of UDP sockets that are connected to the consumer, from /proc/net/udp."""
        remote = "".join(f"{int(byte):02X}" for byte in reversed(CONSUMER.split("."))) + f":{self.consumer.port:04X}"
        return [int(line.split()[1].split(":")[1], 16) for line in self.lab.prov.read("/proc/net/udp").splitlines()[1:]
                if line.split()[2] == remote]

    def test_20_release_ends_it_and_nothing_is_left(self):
        self.shell.close()
        self.assertEqual(202, self.lease.release())
        termination = self.lease.wait_end()
        self.assertEqual(("released", "orchestrator"), (termination["reason"], termination["initiated_by"]))
        self.assertEqual(200, self.lease.release(), "DELETE of what has ended")
        states = [event["data"]["to"] for event in self.lease.events() if event["type"] == "lease.state_changed"]
        self.assertEqual("stopping", states[3])
        self.assertIn(self.lease.id, [item["lease_id"] for item in self.client.items("/v1/terminations")])
        self.assert_nothing_left(self.descriptors)
        self.assert_nothing_leaked(self.before)

    def test_21_the_console_s_tail_is_kept(self):
        self.assertIn("omertad-guest: ready", self.lease.console())

    def test_21_a_follower_of_what_was_kept_is_told_and_let_go(self):
        with self.follow_console() as follower:
            *output, end = follower.frames(limit=10)
            self.assertEqual(("console.ended", {"complete": True}), (end.event, end.data))
            self.assertEqual(self.client.request("GET", f"{self.lease.path}/console").body, self.text_of(output))
            self.assertTrue(follower.ended)

    def test_22_a_terminated_lease_never_changes(self):
        before = self.lease.read()
        self.lease.release()
        time.sleep(0.2)
        self.assertEqual(before, self.lease.read())
        self.assertTrue(re.match(r"^[0-9a-f]{64}$", before["image"]["digest"] or ""))
