"""The daemon where others make it hard: a database that is held, a parent that ignores its children, few descriptors."""

import contextlib
import sqlite3
import time

from case import LabCase, wait_for


class Pressure(LabCase):
    """Each test has a daemon of its own."""

    def start(self, name, through=(), settings=None):
        """A daemon. Return: it"""
        daemon = self.lab.daemon(name, settings).start(through=through)
        self.addCleanup(daemon.stop)
        return daemon

    @contextlib.contextmanager
    def held(self, daemon):
        """The database's write lock in the hands of another program."""
        other = sqlite3.connect(daemon.data / "omertad.db", isolation_level=None, timeout=10)
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.rollback()
            other.close()

    def test_an_end_is_written_once_the_database_is_free_again(self):
        daemon = self.start("held")
        lease = self.lab.lease(daemon)
        lease.wait_state("running")
        with self.held(daemon):
            self.assertEqual(503, lease.release(), "it is not written that it was given back")
            wait_for(lambda: not daemon.machines(), 20, "the machine ends all the same")
            time.sleep(0.5)  # twice what the store waits for another writer
            self.assertEqual("running", lease.read()["state"])
            self.assertEqual(503, lease.release(), "nor is it, while its end waits to be written")
        self.assertEqual("released", lease.wait_end()["reason"])
        self.assertEqual(0, daemon.client().get("/v1/node")["capacity"]["used"]["leases"])
        self.assertIn("event=journal.waits", daemon.log())
        self.assertIn("event=journal.writes_again", daemon.log())

    def test_a_parent_that_ignores_sigchld_changes_nothing(self):
        daemon = self.start("sigchld", through=("env", "--ignore-signal=CHLD"))
        lease = self.lab.lease(daemon)
        lease.wait_state("running")
        lease.release()
        self.assertEqual("released", lease.wait_end()["reason"])
        self.assertEqual([], daemon.left_over())
        self.assertEqual(0, daemon.stop())

    def test_few_descriptors_are_few_leases_and_said_so(self):
        few = ("prlimit", "--nofile=352:352")
        daemon = self.lab.daemon("few", {"capacity": {"leases": 3}})
        self.addCleanup(daemon.stop)
        daemon.start(wait=False, through=few)
        self.assertEqual(2, daemon.wait())
        self.assertIn("capacity.leases: the limit of open descriptors (`ulimit -n`) is enough for 2 leases", daemon.log())
        daemon.configure({"capacity": {"leases": 2}})
        daemon.start(through=("prlimit", "--nofile=100:352"))  # the soft limit is raised
        lease = self.lab.lease(daemon)
        lease.wait_state("running")
        lease.release()
        lease.wait_end()
