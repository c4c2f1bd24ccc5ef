"""Policies of running leases: what PUT answers is what the filter does, and a consumer that moves keeps its tunnel."""

import concurrent.futures
import contextlib
import threading
import time

import frames
from case import DaemonCase, wait_for
from lab import CONSUMER, PROVIDER, STRANGER
from nat_case import GUEST, PORT
from test_external import ENDPOINT, ExternalCase

MOVED = (CONSUMER, PORT + 1)


class Policy(ExternalCase):
    """One lease of a VM that the test plays."""

    settings = {"network": {"allowModeOverride": True}}

    def setUp(self):
        self.consumer.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.consumer.recvfrom(2048)  # of an earlier test
        self.consumer.settimeout(10)
        self.moved = self.lab.world.socket()
        self.moved.bind(MOVED)
        self.moved.settimeout(10)
        self.addCleanup(self.moved.close)
        self.lab.rules.consumers.add(MOVED)

    def policy(self, lease_id):
        """GET. Return: (ETag, policy)"""
        answer = self.client.request("GET", f"/v1/leases/{lease_id}/policy")
        self.assertEqual(200, answer.status, answer.body)
        return answer.headers["ETag"], answer.json

    def put(self, lease_id, etag, *endpoints, **changes):
        """PUT. Return: Answer"""
        body = {"mode": "filtered", "allowlist": [f"{ip}:{port}" for ip, port in endpoints], **changes}
        return self.client.request("PUT", f"/v1/leases/{lease_id}/policy", body, {"If-Match": etag})

    def test_the_answer_comes_when_the_filter_enforces(self):
        lease_id, lease = self.open()
        guest = self.attach(lease)
        guest.send_udp(b"before")
        _, uplink = self.consumer.recvfrom(2048)
        etag, policy = self.policy(lease_id)
        self.assertEqual('"1"', etag)
        self.assertEqual([f"{CONSUMER}:{PORT}"], policy["allowlist"])

        answer = self.put(lease_id, etag, MOVED, limits={"egress_packets_per_s": 1000}, on_violation="terminate")
        self.assertEqual((200, '"2"'), (answer.status, answer.headers["ETag"]), answer.body)
        self.assertEqual((2, 2, "enforcing"), tuple(answer.json[name] for name in (
            "desired_generation", "observed_generation", "enforcement")))
        self.assertEqual([f"{CONSUMER}:{PORT}", f"{CONSUMER}:{PORT + 1}"],
                         [answer.json["vm_endpoint"], answer.json["consumer_endpoint"]])
        stats = self.client.get(f"/v1/leases/{lease_id}/stats")
        self.assertEqual(2, stats["policy_generation"])

        self.consumer.sendto(b"the old home is a stranger", uplink)
        self.moved.sendto(b"from the new one", uplink)
        frame = guest.receive()
        self.assertTrue(frame.endswith(b"from the new one"))
        self.assertEqual(PORT, int.from_bytes(frame[34:36], "big"))  # the guest sees what it knows
        guest.send_udp(b"to the old name")
        self.assertEqual((b"to the old name", uplink), self.moved.recvfrom(2048))
        flows = self.client.get(f"/v1/leases/{lease_id}/flows")["items"]
        self.assertEqual([f"{CONSUMER}:{PORT + 1}"], [flow["endpoint"] for flow in flows])
        self.assertEqual((40000, 2, 1), (flows[0]["guest_port"], flows[0]["from_guest"]["packets"],
                                         flows[0]["from_consumer"]["packets"]))
        lease = self.client.get(f"/v1/leases/{lease_id}")
        self.assertEqual(f"{CONSUMER}:{PORT + 1}", lease["consumer"]["endpoint"])
        self.assertEqual("terminate", lease["on_violation"])
        types = [event["type"] for event in self.client.items(f"/v1/events?lease_id={lease_id}")]
        self.assertEqual(1, types.count("filter.armed"))
        self.assertEqual(1, types.count("filter.policy_applied"))
        self.assert_nothing_leaked()

    def test_the_mode_changes_and_its_table_belongs_to_its_policy(self):
        lease_id, lease = self.open()
        guest = self.attach(lease)
        other = (CONSUMER, PORT + 2)
        self.assertEqual(200, self.put(lease_id, '"1"', ENDPOINT, mode="conntrack").status)
        guest.send_udp(b"remembered")
        self.consumer.recvfrom(2048)
        self.lab.rules.consumers.add(other)
        self.assertEqual(200, self.put(lease_id, '"2"', other, mode="conntrack", on_violation="drop").status)
        guest.send_udp(b"moved")
        self.consumer.settimeout(0.3)
        with self.assertRaises(TimeoutError):
            self.consumer.recvfrom(2048)
        self.consumer.settimeout(10)
        answer = self.put(lease_id, '"3"', other, mode="sampled", sampling_rate=0.5)
        self.assertEqual((200, 0.5), (answer.status, answer.json["sampling"]["rate"]))

    def test_preconditions_and_bad_policies_leave_the_old_one(self):
        lease_id, _ = self.open()
        path = f"/v1/leases/{lease_id}/policy"
        body = {"mode": "filtered", "allowlist": [f"{CONSUMER}:1"]}
        self.assertEqual((428, "precondition-required"), self.outcome("PUT", path, body))
        self.assertEqual((412, "precondition-failed"), self.outcome("PUT", path, body, {"If-Match": '"7"'}))
        for change, pointer in (({"allowlist": ["127.0.0.1:5"]}, "/allowlist/0"), ({"allowlist": []}, "/allowlist"),
                                ({"allowlist": [f"{CONSUMER}:1"] * 2}, "/allowlist/1"), ({"mode": "direct"}, "/mode"),
                                ({"mode": None}, "/mode"), ({"sampling_rate": 0.5}, "/sampling_rate"),
                                ({"limits": {"egress_bits_per_s": 1}}, "/limits/egress_bits_per_s"),
                                ({"more": 1}, "/more")):
            changed = {key: value for key, value in {**body, **change}.items() if value is not None}
            answer = self.client.request("PUT", path, changed, {"If-Match": '"1"'})
            self.assertEqual(422, answer.status, change)
            self.assertIn(pointer, answer.pointers, change)
        self.assertEqual(('"1"', 1), (lambda tag, policy: (tag, policy["observed_generation"]))(*self.policy(lease_id)))
        self.release(lease_id)
        self.assertEqual((409, "lease-ended"), self.outcome("PUT", path, body, {"If-Match": '"1"'}))
        self.assertEqual("ended", self.policy(lease_id)[1]["enforcement"])

    def outcome(self, *request):
        """Status and slug of what was refused."""
        answer = self.client.request(*request)
        return answer.status, answer.slug

    def test_of_two_that_race_one_comes_too_late(self):
        lease_id, _ = self.open()
        for generation in range(1, 11):
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                racing = [pool.submit(self.put, lease_id, f'"{generation}"', (CONSUMER, 20000 + 2 * generation + number))
                          for number in range(2)]
                answers = sorted((one.result() for one in racing), key=lambda one: one.status)
            self.assertEqual([200, 412], [one.status for one in answers])
            self.assertEqual(answers[0].json["allowlist"], self.policy(lease_id)[1]["allowlist"])

    def test_whoever_reads_meanwhile_sees_one_policy_whole(self):
        lease_id, _ = self.open()
        replacing, mixed, looks = threading.Event(), [], [0]
        replacing.set()

        def look():
            client = self.daemon.client()
            while replacing.is_set():
                lease = client.get(f"/v1/leases/{lease_id}")
                policy = client.get(f"/v1/leases/{lease_id}/policy")
                looks[0] += 1
                for generation, endpoint in ((lease["filter"]["observed_generation"], lease["consumer"]["endpoint"]),
                                             (policy["generation"], policy["consumer_endpoint"]),
                                             (policy["observed_generation"], policy["allowlist"][0])):
                    if endpoint != f"{CONSUMER}:{PORT + generation - 1}":
                        mixed.append((generation, endpoint))

        with concurrent.futures.ThreadPoolExecutor() as pool:
            reader = pool.submit(look)
            try:
                for generation in range(1, 40):
                    answer = self.put(lease_id, f'"{generation}"', (CONSUMER, PORT + generation))
                    self.assertEqual(200, answer.status, answer.body)
            finally:
                replacing.clear()
            reader.result()
        self.assertEqual([], mixed)
        self.assertGreater(looks[0], 20)

    def test_another_lease_s_consumer_is_not_taken(self):
        lease_id, _ = self.open()
        self.open(port=PORT + 5)
        answer = self.put(lease_id, '"1"', (CONSUMER, PORT + 5))
        self.assertEqual((409, "peer-in-use"), (answer.status, answer.slug))
        self.assertEqual(200, self.put(lease_id, '"1"', (CONSUMER, PORT + 6)).status)

    def test_evaluations_say_what_the_filter_does(self):
        lease_id, lease = self.open()
        guest = self.attach(lease)
        cases = [({"destination_ip": CONSUMER, "destination_port": PORT}, "forward", "allowed"),
                 ({"destination_ip": CONSUMER, "destination_port": 53}, "drop", "port_not_allowed"),
                 ({"destination_ip": STRANGER, "destination_port": PORT}, "drop", "destination_not_allowed"),
                 ({"destination_ip": CONSUMER, "protocol": "tcp"}, "drop", "protocol_not_allowed"),
                 ({"destination_ip": CONSUMER, "destination_port": PORT, "source_ip": "192.168.64.9"}, "drop",
                  "source_ip_spoofed"),
                 ({"frame": "ffffffffffff" + "02" * 6 + "86dd" + "00" * 40}, "drop", "source_mac_spoofed"),
                 ({"frame": "00"}, "drop", "malformed")]
        for described, verdict, reason in cases:
            answer = self.client.request("POST", f"/v1/leases/{lease_id}/policy/evaluations", described)
            self.assertEqual((200, verdict, reason), (answer.status, answer.json["verdict"], answer.json["reason"]), described)
        self.assertEqual([], self.client.items(f"/v1/leases/{lease_id}/violations"))  # nothing was counted
        for described, _, reason in cases[:3]:
            guest.send_udp(b"", destination=(described["destination_ip"], described["destination_port"]))
        guest.send(frames.tcp_syn((GUEST, 1), (CONSUMER, 1)), source=guest.mac)
        guest.send_udp(b"", source=("192.168.64.9", 40000))
        wanted = {reason for _, _, reason in cases[1:5]}
        wait_for(lambda: wanted == {one["code"] for one in self.client.items(f"/v1/leases/{lease_id}/violations")}, 5,
                 "the real frames meet the same verdicts")
        for bad, pointer in (({}, "/destination_ip"), ({"frame": "0"}, "/frame"), ({"destination_ip": "x"}, "/destination_ip"),
                             ({"destination_ip": CONSUMER, "protocol": "sctp"}, "/protocol"),
                             ({"frame": "00", "protocol": "udp"}, "/protocol"),
                             ({"destination_ip": CONSUMER, "payload_bytes": 1473}, "/payload_bytes")):
            answer = self.client.request("POST", f"/v1/leases/{lease_id}/policy/evaluations", bad)
            self.assertEqual((422, True), (answer.status, pointer in answer.pointers), bad)


class PolicyAtStart(DaemonCase):
    """A real VM: before it runs its policy is not replaced, and in direct mode there is none."""

    def test_a_policy_before_running_is_refused(self):
        lease = self.lease()
        path = f"/v1/leases/{lease.id}/policy"
        body = {"mode": "filtered", "allowlist": [f"{CONSUMER}:{PORT}"]}
        answer = self.client.request("PUT", path, body, {"If-Match": '"1"'})
        self.assertEqual((409, "lease-not-running"), (answer.status, answer.slug))
        self.assertEqual(0, self.client.get(path)["observed_generation"])


class MovedConsumer(DaemonCase):
    """A real VM whose consumer takes another address: wireguard-go sends from there and listens on another port."""

    def test_the_tunnel_is_back_without_a_reboot(self):
        consumer = self.lab.consumer(0)
        lease = self.lease()
        lease.wait_tunnel()
        vm_ip = consumer.vm_ip()
        self.assertTrue(consumer.pings(vm_ip))
        console = self.client.request("GET", f"/v1/leases/{lease.id}/console").body
        moved = (STRANGER, consumer.port + 5)
        self.lab.rules.consumers.add(moved)
        consumer.move(*moved, PROVIDER)
        self.addCleanup(consumer.move_home, PROVIDER)
        self.assertFalse(consumer.pings(vm_ip, limit=1.0))  # what it sends comes from a stranger now

        path = f"/v1/leases/{lease.id}/policy"
        began = time.monotonic()
        answer = self.client.request("PUT", path, {"mode": "filtered", "allowlist": [f"{moved[0]}:{moved[1]}"]},
                                     {"If-Match": self.client.request("GET", path).headers["ETag"]})
        self.assertEqual(200, answer.status, answer.body)
        enforced = time.monotonic() - began
        self.assertTrue(consumer.pings(vm_ip, limit=30.0))
        print(f"moved consumer: policy enforced after {enforced * 1000:.0f} ms, tunnel back after"
              f" {(time.monotonic() - began) * 1000:.0f} ms")
        self.assertLess(time.monotonic() - began, 20)
        after = self.client.get(f"/v1/leases/{lease.id}")
        self.assertEqual("running", after["state"])
        self.assertTrue(self.client.request("GET", f"/v1/leases/{lease.id}/console").body.startswith(console[:200]))
        self.assertEqual([], self.client.items(f"/v1/leases/{lease.id}/violations"))
        self.assert_nothing_leaked()
