"""The ways in which a lease can end, and that nothing is left of it after any of them."""

import os
import signal
import time

import guest
from case import DaemonCase, wait_for


class Ends(DaemonCase):
    """Each test leases a VM and ends it another way."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.descriptors = cls.daemon.descriptors()
        cls.before = cls.lab.oracle.mark()

    def ends(self, lease, reason, limit=20.0):
        """Wait for the end; it has this reason and leaves nothing. Return: the termination"""
        termination = lease.wait_end(limit)
        self.assertEqual(reason, termination["reason"], termination)
        self.assert_nothing_left(self.descriptors)
        self.assert_nothing_leaked(self.before)
        last = lease.events()[-1]
        self.assertEqual("lease.terminated", last["type"])
        return termination

    def test_release_at_any_moment_of_the_boot(self):
        for delay in (0.0, 0.05, 0.2, 0.6, 1.5):
            with self.subTest(f"after {delay} s"):
                lease = self.lease()
                time.sleep(delay)
                self.assertEqual(202, lease.release())
                self.ends(lease, "released")

    def test_release_twice_is_one_end(self):
        lease = self.lease()
        lease.wait_state("running")
        self.assertEqual(202, lease.release())
        self.assertIn(lease.release(), (200, 202))
        self.ends(lease, "released")
        self.assertEqual(1, [event["type"] for event in lease.events()].count("lease.terminated"))

    def test_guest_shutdown(self):
        lease = self.lease()
        lease.wait_tunnel()
        shell = lease.shell()
        self.addCleanup(shell.close)
        shell.send("poweroff -f\n")
        self.assertEqual("guest", self.ends(lease, "guest_shutdown")["initiated_by"])

    def test_guest_panic(self):
        lease = self.lease()
        lease.wait_tunnel()
        shell = lease.shell()
        self.addCleanup(shell.close)
        shell.send("echo c >/proc/sysrq-trigger\n")
        self.ends(lease, "guest_crash")

    def test_hypervisor_killed(self):
        lease = self.lease()
        lease.wait_state("running")
        os.kill(lease.machine(), signal.SIGKILL)
        termination = self.ends(lease, "vmm_crash")
        self.assertEqual(signal.SIGKILL, termination["signal"])

    def test_hypervisor_that_hangs_is_ended_all_the_same(self):
        lease = self.lease()
        lease.wait_state("running")
        os.kill(lease.machine(), signal.SIGSTOP)
        lease.release()
        self.ends(lease, "released", 30)

    def test_the_time_runs_out(self):
        lease = self.lease(ttl_s=4)
        started = time.monotonic()
        self.assertEqual("provider", self.ends(lease, "lease_expired")["initiated_by"])
        self.assertGreater(time.monotonic() - started, 3.5)

    def test_a_consumer_that_never_answers(self):
        """The VM runs without a tunnel, and says so."""
        stranger = self.lab.consumer(3)
        lease = self.lease(consumer=3)
        stranger.dismiss(lease.vm_key)
        lease.wait_state("running")
        wait_for(lambda: lease.read()["tunnel"]["state"] == "handshaking", 20, "the guest tries")
        time.sleep(1)
        self.assertEqual(0, stranger.handshake_at(lease.vm_key))
        self.assertEqual("handshaking", lease.read()["tunnel"]["state"])
        lease.release()
        self.ends(lease, "released")


class Together(DaemonCase):
    """Several VMs at once."""

    def test_three_leases_run_side_by_side_and_know_nothing_of_each_other(self):
        before = self.lab.oracle.mark()
        leases = [self.lease(number, resources={"vcpus": 1, "memory_mib": memory, "disk_mib": 0})
                  for number, memory in enumerate((128, 112, 96))]
        for lease in leases:
            lease.wait_tunnel(90)
        self.assertEqual(3, len({lease.machine() for lease in leases}))
        self.assertEqual(3, len({lease.vm_key for lease in leases}))
        for lease in leases:
            self.assertTrue(lease.consumer.pings(lease.vm_ip, 2))
        self._attack(*leases[:2])
        self.assert_nothing_leaked(before)
        leases[0].release()
        leases[0].wait_end()
        for lease in leases[1:]:
            self.assertTrue(lease.consumer.pings(lease.vm_ip, 2), "the others live on")
            lease.release()
        for lease in leases[1:]:
            lease.wait_end()
        self.assert_nothing_left()

    def _attack(self, attacker, victim):
        """One VM without its firewall tries to reach the other by every address that the other has."""
        shell = attacker.shell()
        self.addCleanup(shell.close)
        targets = [victim.vm_ip, "192.168.64.3", victim.consumer.tunnel_ip]
        guest.drop_firewall(shell, targets)
        tries = [guest.Attack(f"{how} to {ip}", how, ip, 22) for ip in targets for how in ("tcp", "icmp", "udp")]
        self.assertEqual([], guest.run_attacks(shell, tries))
        self.assertEqual([], victim.violations(), "nobody else is blamed")
        self.assertTrue(attacker.violations())
