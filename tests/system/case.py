"""What the system tests share: the lab, and daemons that live as long as a class of tests."""

import unittest

from daemon import wait_for

__all__ = ["DaemonCase", "LabCase", "wait_for"]


class LabCase(unittest.TestCase):
    """A test inside the lab; run.py sets it."""

    lab = None
    captured_before = 0  # a mark of the capture: other tests leak on purpose
    client = None  # of the daemon at hand
    maxDiff = 4000

    def await_state(self, lease_id, state):
        """Wait for a state of a lease. Return: the lease"""
        def there():
            lease = self.client.get(f"/v1/leases/{lease_id}")
            return lease if lease["state"] == state else None
        return wait_for(there, 10, f"{lease_id} is {state}")

    def assert_nothing_leaked(self, since=None):
        """Not one packet on the provider's uplink or loopback that should not be there."""
        mark = self.captured_before if since is None else since
        self.assertEqual([], [str(leak) for leak in self.lab.oracle.leaks(mark)])


class DaemonCase(LabCase):
    """Tests of one class share one daemon, named after the class."""

    settings = None
    daemon = None

    @classmethod
    def setUpClass(cls):
        cls.daemon = cls.lab.daemon(cls.__name__.lower(), cls.settings)
        cls.captured_before = cls.lab.oracle.mark()
        cls.daemon.start()
        cls.client = cls.daemon.client()

    @classmethod
    def tearDownClass(cls):
        cls.daemon.stop()

    def lease(self, consumer=0, **changes):
        """A lease that is released at the end of the test if it has not ended by then."""
        lease = self.lab.lease(self.daemon, consumer, **changes)
        self.addCleanup(self._end, lease)
        return lease

    def _end(self, lease):
        if self.daemon.running and lease.read()["state"] != "terminated":
            lease.release()
            lease.wait_end()

    def assert_nothing_left(self, descriptors=None):
        """No process and no file of a machine; with @descriptors, as many open ones in the daemon as there were."""
        try:
            wait_for(lambda: not self.daemon.left_over(), 20, "nothing left over")
        except TimeoutError:
            self.assertEqual([], self.daemon.left_over())
        if descriptors is not None:
            wait_for(lambda: self.daemon.descriptors() <= descriptors, 5,
                     f"{self.daemon.descriptors()} descriptors back to {descriptors}")
