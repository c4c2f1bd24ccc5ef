"""The data folder on a small file system that fills up, and a database that cannot be trusted: said clearly, nothing let out."""

import contextlib
import os
import pathlib
import sqlite3
import subprocess

from case import wait_for
from test_external import ExternalCase

DATA_KIB = 4096


class FullDisk(ExternalCase):
    """Data and runtime folder are file systems of a few MiB each."""

    def setUp(self):
        super().setUp()
        self.daemon.stop()
        for folder in (self.daemon.data, self.daemon.runtime):
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DATA_KIB}k,mode=0700", "full", folder], check=True)
            self.addCleanup(subprocess.run, ["umount", folder], check=True)
            self.lab.user.give(folder)
        self.addCleanup(self.daemon.stop)
        self.daemon.start()

    def fill(self, folder):
        """Leave no room. Return: the file that takes it"""
        path = pathlib.Path(folder) / "ballast"
        with open(path, "wb", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(bytes(4096))
            except OSError:
                pass
        return path

    def test_a_full_data_folder_refuses_leases_and_filters_the_one_that_runs(self):
        lease_id, lease = self.open()
        guest = self.attach(lease)
        guest.send_udp(b"before")
        self.assertEqual(b"before", self.consumer.recvfrom(2048)[0])
        ballast = self.fill(self.daemon.data)
        answers = [self.client.request("POST", "/v1/leases", self.body(port=50000 + at)) for at in range(3)]
        refused = [answer for answer in answers if answer.status >= 500]
        self.assertTrue(refused, [answer.body for answer in answers])
        for answer in refused:
            self.assertEqual("application/problem+json", answer.headers["Content-Type"])
        guest.send_udp(b"still")
        self.assertEqual(b"still", self.consumer.recvfrom(2048)[0])
        guest.send_udp(b"never", destination=self.consumer.getsockname()[:1] + (53,))
        self.assertEqual("running", self.client.get(f"/v1/leases/{lease_id}")["state"])
        ballast.unlink()
        found = wait_for(lambda: self.client.items(f"/v1/leases/{lease_id}/violations"), 20, "what waited is written")
        self.assertEqual("port_not_allowed", found[0]["code"])
        for answer in answers:
            if answer.status == 202:
                self.release(answer.json["id"])
        other, _ = self.open(port=50100)
        self.release(other)
        self.release(lease_id)
        self.assertEqual(0, self.daemon.stop())
        with contextlib.closing(sqlite3.connect(self.daemon.data / "omertad.db")) as store:
            self.assertEqual(("ok",), store.execute("PRAGMA integrity_check").fetchone())

    def test_a_full_runtime_folder_fails_the_machine_and_says_why(self):
        ballast = self.fill(self.daemon.runtime)
        lease = self.lab.lease(self.daemon)
        ended = lease.wait_end()
        self.assertEqual("start_failed", ended["reason"])
        self.assertIn("No space left", ended["detail"])
        self.assertEqual([], self.daemon.machines())
        ballast.unlink()
        self.release(self.open()[0])


class BadDatabase(ExternalCase):
    """A daemon that finds its store spoilt does not start on it, says why, and leaves the file as it was."""

    def setUp(self):
        super().setUp()
        if not self.daemon.running:
            self.daemon.start()
        self.release(self.open()[0])
        self.assertEqual(0, self.daemon.stop())
        self.file = self.daemon.data / "omertad.db"
        whole = self.file.read_bytes()
        self.addCleanup(self.file.write_bytes, whole)

    def refused(self, words):
        """The daemon ends by itself, with @words in its log."""
        before = self.file.read_bytes()
        said = len(self.daemon.log())
        self.daemon.start(wait=False)
        self.assertEqual(1, self.daemon.wait())
        log = self.daemon.log()[said:]
        self.assertIn(words, log)
        self.assertEqual(before, self.file.read_bytes())

    def test_truncated(self):
        os.truncate(self.file, self.file.stat().st_size // 2)
        self.refused("malformed")

    def test_a_flipped_bit_in_its_header(self):
        content = bytearray(self.file.read_bytes())
        content[3] ^= 0x10
        self.file.write_bytes(content)
        self.refused("not a database")

    def test_a_file_system_that_is_read_only(self):
        subprocess.run(["mount", "--bind", self.daemon.data, self.daemon.data], check=True)
        self.addCleanup(subprocess.run, ["umount", self.daemon.data], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", self.daemon.data], check=True)
        try:
            self.refused("ead-only")  # "Read-only file system" of the kernel's, "readonly" of SQLite's
        finally:
            subprocess.run(["mount", "-o", "remount,rw,bind", self.daemon.data], check=True)

    def test_a_newer_schema(self):
        with contextlib.closing(sqlite3.connect(self.file)) as store:
            version = store.execute("PRAGMA user_version").fetchone()[0]
            store.execute(f"PRAGMA user_version = {version + 1}")
        self.refused("newer")

    def test_a_folder_that_others_may_write_to(self):
        self.daemon.data.chmod(0o777)
        self.addCleanup(self.daemon.data.chmod, 0o700)
        self.refused("chmod 700")


del ExternalCase  # its own tests are run where it is defined
