"""Leases whose VM somebody else runs: the NAT at a socket, the whole life over HTTP, and many of them at once."""

import os
import stat
import time

import frames
from case import DaemonCase, wait_for
from lab import CONSUMER
from nat_case import GUEST, PORT, LeasedGuest

ENDPOINT = (CONSUMER, PORT)
MANY = int(os.environ.get("OMERTAD_EXTERNAL_LEASES", "200"))


def threads(pid):
    """Number of threads of a process."""
    return len(os.listdir(f"/proc/{pid}/task"))


def switches(pid):
    """How often the threads of a process have given up the processor of themselves: each wake-up ends in one."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status", encoding="ascii") as lines:
            total += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))
    return total


class ExternalCase(DaemonCase):
    """A daemon for external leases, and a consumer that is a plain socket."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.consumer = cls.lab.world.socket()
        cls.consumer.bind(ENDPOINT)
        cls.consumer.settimeout(10)
        cls.lab.rules.consumers.add(ENDPOINT)
        cls.guests = cls.daemon.folder / "guests"
        cls.guests.mkdir()
        cls.lab.user.give(cls.guests)

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.consumer.close()
        cls.lab.rules.consumers.discard(ENDPOINT)

    def body(self, port=PORT, **changes):
        """A request for an external lease."""
        consumer = {"public_key": self.lab.consumer().public_key, "endpoint": f"{CONSUMER}:{port}",
                    "tunnel_ip": "10.99.0.1"}
        body = {"attachment": "external", "resources": {"vcpus": 1, "memory_mib": 1}, "consumer": consumer,
                "vm": {"tunnel_ip": "10.99.0.2"}}
        body.update(changes)
        return {key: value for key, value in body.items() if value is not None}

    def open(self, **changes):
        """An external lease that runs. Return: (its id, its GET)"""
        answer = self.client.request("POST", "/v1/leases", self.body(**changes))
        self.assertEqual(202, answer.status, answer.body)
        lease_id = answer.json["id"]
        self.addCleanup(self.release, lease_id)
        return lease_id, self.await_state(lease_id, "running")

    def release(self, lease_id):
        """End a lease and wait for it."""
        if self.daemon.running:
            self.client.request("DELETE", f"/v1/leases/{lease_id}")
            self.await_state(lease_id, "terminated")

    def attach(self, lease):
        """A guest with the leased addresses at the lease's socket."""
        guest = LeasedGuest(self.guests / "vm.sock", lease["attachment"]["socket_path"],
                            frames.mac(lease["network"]["guest_mac"]))
        self.addCleanup(guest.close)
        return guest


class External(ExternalCase):
    """One lease at a time."""

    settings = {"network": {"allowModeOverride": True}}

    def test_its_whole_life(self):
        lease_id, lease = self.open()
        self.assertEqual("external", lease["attachment"]["kind"])
        self.assertEqual("enforcing", lease["filter"]["enforcement"])
        for member in ("image", "ssh", "accelerator"):
            self.assertIsNone(lease[member])
        self.assertIsNone(lease["vm"]["public_key"])
        path = lease["attachment"]["socket_path"]
        self.assertTrue(stat.S_ISSOCK(os.stat(path).st_mode))
        self.assertEqual(0o700, stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode))
        states = [event["data"]["to"] for event in self.client.items(f"/v1/events?lease_id={lease_id}")
                  if event["type"] == "lease.state_changed"]
        self.assertEqual(["preparing", "starting", "running"], states)

        guest = self.attach(lease)
        guest.send_udp(b"out")
        data, source = self.consumer.recvfrom(2048)
        self.assertEqual(b"out", data)
        self.consumer.sendto(b"back", source)
        self.assertTrue(guest.receive().endswith(b"back"))
        guest.send_udp(b"never", destination=(CONSUMER, 53))
        found = wait_for(lambda: self.client.items(f"/v1/leases/{lease_id}/violations"), 20, "the violation")
        self.assertEqual("port_not_allowed", found[0]["code"])
        self.release(lease_id)
        self.assertFalse(os.path.exists(path))
        with self.assertRaises(OSError):
            guest.send_udp(b"too late")
        self.assert_nothing_leaked()

    def test_a_terminating_violation_ends_it(self):
        lease_id, lease = self.open(network={"mode": "conntrack"})
        guest = self.attach(lease)
        guest.send_udp(b"never", destination=(CONSUMER, 53))
        lease = self.await_state(lease_id, "terminated")
        self.assertEqual("policy_violation", lease["termination"]["reason"])
        self.assertIsNone(lease["termination"]["exit_code"])
        self.assertFalse(os.path.exists(lease["attachment"]["socket_path"]))
        violation = self.client.get(f"/v1/violations/{lease['termination']['violation_id']}")
        self.assertEqual("terminated", violation["verdict"])
        self.assert_nothing_leaked()

    def counted(self, lease_id):
        """What its NAT has counted. Return: ({(reason, verdict): (frames, bytes)} without zeros, {outcome: packets})"""
        stats = self.client.get(f"/v1/leases/{lease_id}/stats")
        return ({(one["reason"], one["verdict"]): (one["frames"], one["bytes"]) for one in stats["from_guest"] if one["frames"]},
                {one["outcome"]: one["packets"] for one in stats["from_consumer"]})

    def test_frames_are_counted_by_verdict_and_reason(self):
        lease_id, lease = self.open()
        guest = self.attach(lease)
        for _ in range(3):
            guest.send_udp(b"out")
            _, source = self.consumer.recvfrom(2048)
        self.consumer.sendto(b"back", source)
        guest.receive()
        for _ in range(2):
            guest.send_udp(b"", destination=(CONSUMER, 53))
        guest.send(frames.tcp_syn((GUEST, 1), ENDPOINT), source=guest.mac)
        guest.send_udp(b"", source=("192.168.64.9", 40000))
        wanted = {("allowed", "forward"): 3, ("port_not_allowed", "drop"): 2, ("protocol_not_allowed", "drop"): 1,
                  ("source_ip_spoofed", "drop"): 1}
        wait_for(lambda: {key: count for key, (count, _) in self.counted(lease_id)[0].items()} == wanted, 5,
                 "each frame is counted once")
        outbound, inbound = self.counted(lease_id)
        self.assertEqual(3 * 45, outbound["allowed", "forward"][1])
        self.assertEqual(2 * 42, outbound["port_not_allowed", "drop"][1])
        self.assertEqual({"delivered": 1, "rate_limited": 0, "too_big": 0, "vm_gone": 0}, inbound)

    def test_a_vm_that_is_started_again_is_the_peer_again(self):
        lease_id, lease = self.open()
        guest = self.attach(lease)
        guest.send_udp(b"first life")
        _, source = self.consumer.recvfrom(2048)
        guest.close()
        self.consumer.sendto(b"into the void", source)  # the consumer keeps on asking for its VM
        wait_for(lambda: self.counted(lease_id)[1]["vm_gone"] == 1, 20, "the NAT sees that its peer is gone")
        guest = self.attach(lease)
        guest.send_udp(b"second life")
        self.assertEqual((b"second life", source), self.consumer.recvfrom(2048))  # and it is in the flow that was there
        self.consumer.sendto(b"welcome", source)
        self.assertTrue(guest.receive().endswith(b"welcome"))
        self.assertEqual([], self.client.items(f"/v1/leases/{lease_id}/violations"))
        self.assert_nothing_leaked()

    def test_what_it_cannot_have_is_refused(self):
        for changes, pointer in (({"image": "micro"}, "/image"), ({"ssh": {}}, "/ssh"),
                                 ({"network": {"mode": "direct"}}, "/network/mode"), ({"attachment": "tap"}, "/attachment")):
            answer = self.client.request("POST", "/v1/leases", self.body(**changes))
            self.assertEqual(422, answer.status)
            self.assertIn(pointer, answer.pointers)

    def test_the_next_daemon_opens_the_socket_again_with_the_newest_policy(self):
        lease_id, lease = self.open()
        body = {"mode": "filtered", "allowlist": [f"{CONSUMER}:{PORT + 1}"]}
        path = f"/v1/leases/{lease_id}/policy"
        self.assertEqual(200, self.client.request("PUT", path, body, {"If-Match": '"1"'}).status)
        self.daemon.send_signal(9)
        self.daemon.wait()
        self.daemon.start()
        lease = self.await_state(lease_id, "running")
        self.assertEqual([f"{CONSUMER}:{PORT + 1}", f"{CONSUMER}:{PORT}"],
                         [self.client.get(path)[name] for name in ("consumer_endpoint", "vm_endpoint")])
        moved = self.lab.world.socket()
        self.addCleanup(moved.close)
        moved.bind((CONSUMER, PORT + 1))
        moved.settimeout(10)
        self.lab.rules.consumers.add((CONSUMER, PORT + 1))
        self.attach(lease).send_udp(b"to the name that the VM knows")
        self.assertEqual(b"to the name that the VM knows", moved.recv(2048))


class ManyExternal(ExternalCase):
    """Hundreds of leases on one daemon; OMERTAD_EXTERNAL_LEASES=1000 is the documented figure."""

    settings = {"capacity": {"leases": MANY + 1, "vcpus": MANY + 1, "memoryMib": MANY + 1, "diskMib": 1},
                "tunnel": {"timeoutS": 0}}

    def test_many_leases_are_light_and_silent_and_leave_nothing(self):
        self.release(self.open(port=60000)[0])  # what is made once
        descriptors, memory, before = self.daemon.descriptors(), self.daemon.resident_kib(), threads(self.daemon.pid)
        began = time.monotonic()
        leases = []
        for number in range(MANY):
            answer = self.client.request("POST", "/v1/leases", self.body(port=10000 + number))
            self.assertEqual(202, answer.status, answer.body)
            leases.append(answer.json["id"])
        wait_for(lambda: self.running() == MANY, 60, "all leases run", every=0.1)
        took = time.monotonic() - began
        per_lease = (self.daemon.resident_kib() - memory) / MANY
        woken = min(self.woken_in_a_second() for _ in range(3))  # the first may have work left to do
        print(f"external leases: {MANY} started in {took:.2f} s; each {per_lease:.1f} KiB resident and"
              f" {(self.daemon.descriptors() - descriptors) / MANY:.1f} descriptors; {woken} wake-ups/s in all when idle")
        self.assertLess(per_lease, 256)
        self.assertLess(woken, 20)
        for lease_id in leases:
            self.client.request("DELETE", f"/v1/leases/{lease_id}")
        wait_for(lambda: self.client.get("/v1/node")["capacity"]["used"]["leases"] == 0, 60, "all leases have ended", every=0.1)
        wait_for(lambda: self.daemon.descriptors() <= descriptors, 30,
                 f"descriptors return to the {descriptors} of the start")
        self.assertEqual(before, threads(self.daemon.pid))
        self.assertEqual([], self.daemon.left_over())

    def woken_in_a_second(self):
        """How often the daemon's threads wake up while nobody wants anything."""
        idle = switches(self.daemon.pid)
        time.sleep(1)
        return switches(self.daemon.pid) - idle

    def running(self):
        """How many leases run."""
        return len(self.client.items("/v1/leases?state=running&limit=200"))
