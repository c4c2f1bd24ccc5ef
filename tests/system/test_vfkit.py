"""Leases whose hypervisor is vfkit. There is none for this system: a stand-in takes its place that refuses what vfkit's
documentation does not have, answers its REST interface, and lets the test be the guest. All else is the real daemon over real
HTTP, with its NAT and its store."""

import json
import os
import signal
import stat

import fake_machine
import frames
from case import DaemonCase, wait_for
from daemon import process_arguments
from lab import CONSUMER
from nat_case import PORT, LeasedGuest

ENDPOINT = (CONSUMER, PORT)
WHY_NO_DIRECT = "(virtio-net,nat) leaves the provider's addresses, its local network and other guests open to a guest"


class Vfkit(DaemonCase):
    """A daemon on a machine with vfkit, as far as it can see."""

    @classmethod
    def setUpClass(cls):
        cls.daemon = cls.lab.daemon("vfkit", image=False)
        cls.vfkit = fake_machine.install(cls.daemon.folder, "fake_vfkit", "test_machine_vfkit")
        cls.guests = cls.daemon.folder / "guests"
        cls.guests.mkdir()
        cls.go = cls.daemon.folder / "go"
        for word in ("obedient", "guest-shutdown"):
            fake_machine.make_image(cls.daemon.images / word, f"fake={word} go={cls.go} relay={cls.guests}")
        cls.settings = {"hypervisor": {"kind": "vfkit", "vfkit": str(cls.vfkit), "powerdownMs": 500},
                        "network": {"allowModeOverride": True}, "capacity": {"leases": 4, "vcpus": 4}}
        cls.daemon.configure(cls.settings)
        cls.captured_before = cls.lab.oracle.mark()
        cls.daemon.start()
        cls.client = cls.daemon.client()
        cls.consumer = cls.lab.world.socket()
        cls.consumer.bind(ENDPOINT)
        cls.consumer.settimeout(2)
        cls.lab.rules.consumers.add(ENDPOINT)

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.consumer.close()
        cls.lab.rules.consumers.discard(ENDPOINT)

    def run_lease(self, image="obedient", **changes):
        """A lease that runs. Return: (its id, its GET)"""
        answer = self.client.request("POST", "/v1/leases",
                                     fake_machine.request(image, f"{CONSUMER}:{PORT}", **changes))
        self.assertEqual(202, answer.status, answer.body)
        self.addCleanup(self.end, answer.json["id"])
        return answer.json["id"], self.await_state(answer.json["id"], "running")

    def end(self, lease_id):
        """Release a lease, and see that nothing of it is left."""
        if self.daemon.running:
            self.client.request("DELETE", f"/v1/leases/{lease_id}")
            self.await_state(lease_id, "terminated")
        for path in self.guests.iterdir():
            path.unlink()

    def processes(self):
        """Pids of this daemon's hypervisors."""
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
                if (process_arguments(pid) or [""])[0] == str(self.vfkit)]

    def left_over(self):
        """Processes, folders and disks of machines."""
        disks = [path for path in self.daemon.data.iterdir() if path.suffix in (".disk", ".overlay")]
        return self.processes() + list((self.daemon.runtime / "machines").iterdir()) + disks

    def assert_ended(self, lease_id, reason):
        """It ended for this reason and left nothing. Return: the termination"""
        termination = self.await_state(lease_id, "terminated")["termination"]
        self.assertEqual(reason, termination["reason"], termination)
        wait_for(lambda: not self.left_over(), 5, "nothing is left over")
        self.assert_nothing_leaked()
        return termination

    def guest(self, lease_id, lease):
        """Be the guest of a machine."""
        guest = LeasedGuest(self.guests / "vm.sock", self.guests / f"{lease_id}.sock",
                            frames.mac(lease["network"]["guest_mac"]))
        self.addCleanup(guest.close)
        return guest

    def console(self, lease_id):
        """What the machine has printed."""
        return self.client.request("GET", f"/v1/leases/{lease_id}/console").body.decode()

    def test_its_whole_life(self):
        lease_id, lease = self.run_lease()
        self.assertEqual("vz", lease["accelerator"])
        self.assertEqual("enforcing", lease["filter"]["enforcement"])
        (pid,) = self.processes()
        words = process_arguments(pid)
        self.assertEqual("1", words[words.index("--cpus") + 1])
        self.assertIn(f"virtio-net,fd=3,mac={lease['network']['guest_mac']}", words)
        seed = self.daemon.runtime / "machines" / lease_id / "seed.iso"
        self.assertEqual(0o600, stat.S_IMODE(seed.stat().st_mode))
        self.assertEqual(0o700, stat.S_IMODE(seed.parent.stat().st_mode))
        wait_for(lambda: "CIDATA" in self.console(lease_id), 5, "the guest has found its seed")
        states = [event["data"]["to"] for event in self.client.items(f"/v1/events?lease_id={lease_id}")
                  if event["type"] == "lease.state_changed"]
        self.assertEqual(["preparing", "starting", "running"], states)

        guest = self.guest(lease_id, lease)
        guest.send_udp(b"out")
        data, source = self.consumer.recvfrom(2048)
        self.assertEqual(b"out", data)
        self.consumer.sendto(b"back", source)
        self.assertTrue(guest.receive().endswith(b"back"))
        guest.send_udp(b"never", destination=(CONSUMER, 53))
        found = wait_for(lambda: self.client.items(f"/v1/leases/{lease_id}/violations"), 5, "the violation")
        self.assertEqual("port_not_allowed", found[0]["code"])
        self.assertEqual(202, self.client.request("DELETE", f"/v1/leases/{lease_id}").status)
        self.assertEqual(0, self.assert_ended(lease_id, "released")["exit_code"])
        self.assertTrue(self.console(lease_id).endswith("stop\n"))

    def test_a_terminating_violation_kills_it(self):
        lease_id, lease = self.run_lease(network={"mode": "conntrack"})
        self.guest(lease_id, lease).send_udp(b"never", destination=(CONSUMER, 53))
        termination = self.assert_ended(lease_id, "policy_violation")
        self.assertEqual(signal.SIGKILL, termination["signal"])

    def test_a_crash_is_told_and_leaves_nothing(self):
        lease_id, _ = self.run_lease()
        os.kill(self.processes()[0], signal.SIGKILL)
        self.assertEqual(signal.SIGKILL, self.assert_ended(lease_id, "vmm_crash")["signal"])

    def test_a_guest_that_shuts_down_is_no_crash(self):
        lease_id, _ = self.run_lease("guest-shutdown")
        self.addCleanup(self.go.unlink)
        self.go.touch()
        self.assertEqual("guest", self.assert_ended(lease_id, "guest_shutdown")["initiated_by"])

    def test_one_that_hangs_is_ended_all_the_same(self):
        lease_id, _ = self.run_lease()
        os.kill(self.processes()[0], signal.SIGSTOP)
        self.client.request("DELETE", f"/v1/leases/{lease_id}")
        self.assert_ended(lease_id, "released")

    def test_it_ends_with_a_daemon_that_is_killed(self):
        lease_id, _ = self.run_lease(resources={"vcpus": 1, "memory_mib": 16, "disk_mib": 8})
        self.daemon.send_signal(signal.SIGKILL)
        self.daemon.wait()
        wait_for(lambda: not self.processes(), 5, "it ends with its daemon")
        self.assertTrue(self.left_over(), "files of it, which the next daemon clears away")
        self.daemon.start()
        self.assert_ended(lease_id, "recovery_failed")

    def test_it_ends_with_a_daemon_that_leaves(self):
        lease_id, _ = self.run_lease()
        self.assertEqual(0, self.daemon.stop(signal.SIGUSR2))
        self.assertEqual([], self.left_over())
        self.daemon.start()
        self.assert_ended(lease_id, "provider_shutdown")

    def test_there_is_no_direct_mode(self):
        node = self.client.get("/v1/node")
        self.assertEqual("vfkit", node["hypervisor"])
        self.assertEqual("vz", node["accelerator"]["name"])
        self.assertEqual(["filtered", "conntrack", "sampled"], node["network"]["modes"])
        answer = self.client.request("POST", "/v1/leases", fake_machine.request("obedient", f"{CONSUMER}:{PORT}",
                                                                                network={"mode": "direct"}))
        self.assertEqual((409, "direct-unavailable"), (answer.status, answer.slug))
        self.assertIn(WHY_NO_DIRECT, answer.json["detail"])

    def test_a_configuration_that_it_cannot_keep_is_refused(self):
        file = self.daemon.folder / "wrong.json"
        for wrong, key in (({"network": {"mode": "direct"}}, "network.mode"), ({"onDaemonExit": "keep"}, "onDaemonExit"),
                           ({"network": {"attachment": "stream"}}, "network.attachment")):
            file.write_text(json.dumps({"hypervisor": {"kind": "vfkit"}, **wrong}), encoding="ascii")
            self.lab.user.give(file)
            done = self.daemon.run("doctor", "--config", file)
            self.assertEqual(2, done.returncode)
            self.assertIn(f"{key} cannot be", done.stderr)
            self.assertEqual(key == "network.mode", WHY_NO_DIRECT in done.stderr)

    def test_doctor_finds_it(self):
        done = self.daemon.run("doctor", "--json", "--config", self.daemon.config_file)
        found = {row["check"]: row for row in json.loads(done.stdout)["findings"]}
        self.assertIn("vfkit version", json.dumps(found["hypervisor"]))
        self.assertEqual("ok", found["accelerator"]["level"])
        self.assertNotIn("pasta", found)
        self.assertEqual("note", found["direct"]["level"])
        self.assertIn(WHY_NO_DIRECT, json.dumps(found["direct"]))
        file = self.daemon.folder / "none.json"
        file.write_text(json.dumps({"hypervisor": {"kind": "vfkit", "vfkit": "/no/vfkit"}}), encoding="ascii")
        self.lab.user.give(file)
        done = self.daemon.run("doctor", "--json", "--config", file)
        found = {row["check"]: row for row in json.loads(done.stdout)["findings"]}
        self.assertEqual(("fail", "brew install vfkit"), (found["hypervisor"]["level"], found["hypervisor"]["mend"]))
