"""Leases whose frames lie on a stream between QEMU and the NAT (network.attachment in the configuration)."""

import os
import pathlib
import signal

import guest
from case import DaemonCase, wait_for
from lab import WEB


class StreamAttachment(DaemonCase):
    """What holds with datagrams holds with a stream."""

    settings = {"network": {"attachment": "stream"}}

    def test_a_lease_from_tunnel_to_release(self):
        before = self.lab.oracle.mark()
        consumer = self.lab.consumer(0)
        lease = self.lease()
        established = lease.wait_tunnel()
        command = pathlib.Path(f"/proc/{lease.machine()}/cmdline").read_bytes().decode().split("\0")
        self.assertIn("stream,id=net0,server=off,addr.type=fd,addr.str=3", command)
        self.assertEqual("enforcing", established["filter"]["enforcement"])
        self.assertEqual("unsupported", established["filter"]["kernel_filter"])
        self.assertTrue(consumer.pings(lease.vm_ip, 3))
        shell = lease.shell()
        self.addCleanup(shell.close)
        self.assertEqual((0, "through the stream"), shell.run("echo through the stream"))
        guest.drop_firewall(shell, [WEB])
        shell.run(f"ping -c 1 -W 1 {WEB}")
        wait_for(lambda: [item for item in lease.violations() if item["destination_ip"] == WEB], 20, "a violation")
        self.assert_nothing_leaked(before)
        lease.release()
        self.assertEqual("released", lease.wait_end()["reason"])
        self.assert_nothing_left()

    def test_a_hypervisor_that_dies_is_the_reason_and_not_its_stream(self):
        lease = self.lease()
        lease.wait_state("running")
        os.kill(lease.machine(), signal.SIGKILL)
        self.assertEqual("vmm_crash", lease.wait_end()["reason"])
        self.assert_nothing_left()
