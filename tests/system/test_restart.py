"""A daemon goes, its VMs stay: killed, or asked to leave. While there is no NAT nothing of them arrives anywhere; the next
daemon proves each one, and its tunnel goes on without the guest's doing."""

import signal
import time

from case import LabCase, wait_for
from daemon import process_field

QUIET_S = 2.0
TUNNEL_S = 10.0


class Restart(LabCase):
    """Each test has a daemon of its own, with one lease whose tunnel is up."""

    def start(self, name, **changes):
        """Return: (daemon, lease, pid of its hypervisor)"""
        daemon = self.lab.daemon(name).start()
        self.addCleanup(daemon.stop)
        lease = self.lab.lease(daemon, **changes)
        lease.wait_tunnel()
        return daemon, lease, lease.machine()

    def assert_cut_off(self, lease):
        """The guest tries everything and its tunnel too, and not one packet is seen on the provider's links."""
        before = self.lab.oracle.mark()
        heard = lease.consumer.received_bytes(lease.vm_key)
        self.assertFalse(lease.consumer.pings(lease.vm_ip, limit=QUIET_S))
        self.assert_nothing_leaked(before)
        self.assertEqual(heard, lease.consumer.received_bytes(lease.vm_key), "something of the VM arrived")

    def assert_goes_on(self, daemon, lease, pid):
        """The same machine runs again under the same lease, filtered, with its tunnel."""
        lease.wait_state("running")
        self.assertEqual(pid, lease.machine())
        self.assertIn("recovery.adopted", [event["type"] for event in lease.events()])
        self.assertNotIn("recovery.failed", [event["type"] for event in lease.events()])
        found = lease.read()
        self.assertEqual(found["filter"]["desired_generation"], found["filter"]["observed_generation"])
        self.assertTrue(lease.consumer.pings(lease.vm_ip, limit=TUNNEL_S), "the tunnel goes on")
        before = self.lab.oracle.mark()
        lease.shell().run("iptables -P OUTPUT ACCEPT; iptables -F OUTPUT; ping -c 1 -W 1 8.8.8.8; true")
        self.assert_nothing_leaked(before)

    def finish(self, daemon, lease):
        """Release it: the next daemon ends a machine that it did not start."""
        lease.release()
        self.assertEqual("released", lease.wait_end()["reason"])
        wait_for(lambda: not daemon.left_over(), 20, "nothing is left over")
        self.assertEqual(0, daemon.stop())

    def test_a_vm_lives_through_kill_9_and_sends_nothing_until_it_is_adopted(self):
        daemon, lease, pid = self.start("restartkill")
        daemon.send_signal(signal.SIGKILL)
        self.assertEqual(-signal.SIGKILL, daemon.wait())
        self.assert_cut_off(lease)
        self.assertEqual([pid], daemon.machines())
        daemon.start()
        self.assert_goes_on(daemon, lease, pid)
        self.finish(daemon, lease)

    def test_a_daemon_that_is_asked_to_leave_leaves_its_vms(self):
        daemon, lease, pid = self.start("restartleave")
        self.assertEqual(0, daemon.stop(signal.SIGUSR2))
        self.assert_cut_off(lease)
        self.assertEqual([pid], daemon.machines())
        daemon.start()
        self.assert_goes_on(daemon, lease, pid)
        self.finish(daemon, lease)

    def test_an_upgrade_takes_the_place_of_the_daemon_that_serves(self):
        daemon, lease, pid = self.start("restartupgrade")
        old = daemon.detach()
        begin = time.monotonic()
        daemon.start(wait=False, extra=("--handover",))
        self.assertEqual(0, old.wait(20))
        wait_for(daemon.is_ready, 10, "the next daemon is ready")
        took = time.monotonic() - begin
        self.assert_goes_on(daemon, lease, pid)
        print(f"     handover in {took:.2f} s", flush=True)
        self.finish(daemon, lease)

    def test_a_handover_without_a_daemon_is_a_start(self):
        daemon = self.lab.daemon("restartalone").start(extra=("--handover",))
        self.assertEqual(0, daemon.stop())

    def test_what_cannot_be_proved_is_ended(self):
        daemon, lease, pid = self.start("restartunproved")
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()
        (daemon.runtime / "machines" / lease.id / "qmp.sock").unlink()
        daemon.start()
        termination = lease.wait_end()
        self.assertEqual("recovery_failed", termination["reason"])
        self.assertIn("recovery.failed", [event["type"] for event in lease.events()])
        self.assertIsNone(process_field(pid, "State") if pid in daemon.machines() else None)
        wait_for(lambda: not daemon.left_over(), 20, "nothing is left over")
        self.assertEqual(0, daemon.stop())

    def test_a_lease_that_expired_meanwhile_has_expired(self):
        daemon, lease, _ = self.start("restartexpired", ttl_s=60)
        expires = lease.read()["expires_at"]
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()
        daemon.start()
        self.assertEqual(expires, lease.wait_state("running")["expires_at"], "its time runs on, no more and no less")
        self.finish(daemon, lease)

    def test_direct_machines_end_with_their_daemon(self):
        daemon = self.lab.daemon("restartdirect", {"network": {"allowModeOverride": True}}).start()
        self.addCleanup(daemon.stop)
        lease = self.lab.lease(daemon, network={"mode": "direct"})
        lease.wait_state("running", 30)
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()
        wait_for(lambda: not daemon.machines(), 20, "the namespace ends with the daemon, and the machine in it")
        daemon.start()
        self.assertEqual("recovery_failed", lease.wait_end()["reason"])
        self.assertEqual(0, daemon.stop())
