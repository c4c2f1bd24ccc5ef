"""Secrets: the VM's private key and a preshared key lie in the seed volume and in the VM, and nowhere else."""

import base64
import os
import pathlib
import stat

from case import DaemonCase


def nested(text):
    """What stays the same of @text when it stands anywhere inside a longer base64 text: one form for each alignment."""
    for shift in range(3):
        encoded = base64.b64encode(bytes(shift) + text)
        yield encoded[4 if shift else 0:-4]


class Secrets(DaemonCase):
    """One lease with a preshared key as a canary."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.consumer = cls.lab.consumer(0)
        cls.preshared = base64.b64encode(os.urandom(32)).decode()
        body = cls.lab.request(cls.consumer)
        body["consumer"]["preshared_key"] = cls.preshared
        # With a key, so that the request leaves a record behind as well.
        cls.answer = cls.client.request("POST", "/v1/leases", body, {"Idempotency-Key": "canary"})
        cls.secret_lease = cls.lab.adopt(cls.daemon, cls.consumer, cls.answer)
        cls.consumer.share(cls.secret_lease.vm_key, cls.preshared)
        cls.secret_lease.wait_tunnel()
        shell = cls.secret_lease.shell()
        _, config = shell.run("cat /etc/wireguard/wg0.conf; stat -c %a /etc/wireguard/wg0.conf")
        shell.close()
        cls.config = config
        cls.private = next((line.partition("=")[2].strip() for line in config.splitlines()
                            if line.startswith("PrivateKey")), "")

    def canaries(self):
        """Every form in which a secret could lie around."""
        for text in (self.private, self.preshared):
            raw = base64.b64decode(text)
            yield from (text.encode(), raw, raw.hex().encode(), base64.urlsafe_b64encode(raw), *nested(text.encode()))

    def holds_a_secret(self, content):
        """Whether any canary stands in @content."""
        return any(canary in content for canary in self.canaries())

    def assert_absent(self, content, where):
        """No canary in @content; the content itself is not shown."""
        self.assertFalse(self.holds_a_secret(content), f"a secret lies in {where}")

    def seeds(self):
        """Seed volumes: wherever in the runtime folder a secret lies, and what the hypervisors hold open of it."""
        files = [path for path in self.daemon.runtime.rglob("*") if path.is_file()]
        for pid in self.daemon.machines():
            files += [entry for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir() if "seed" in os.readlink(entry)]
        return [path for path in files if self.holds_a_secret(path.read_bytes())]

    def test_1_the_vm_has_its_key_and_it_is_its_public_key_s(self):
        self.assertEqual(44, len(self.private), self.config)
        self.assertIn(self.preshared, self.config)
        self.assertTrue(self.config.endswith("600"))

    def test_2_the_seed_volume_is_for_its_owner_alone(self):
        """Whether it lies in the folder, or has no name any more and is open in the hypervisor alone."""
        self.assertTrue(self.seeds(), "the canaries are not even found where they must be")
        for seed in self.seeds():
            self.assertEqual(0o600, stat.S_IMODE(seed.stat().st_mode), seed)
        for folder in (self.daemon.runtime, *self.daemon.runtime.rglob("*")):
            self.assertEqual(0, stat.S_IMODE(folder.stat().st_mode) & 0o077, folder)

    def test_3_no_secret_in_store_logs_answers_arguments_or_environment(self):
        for file in (*self.daemon.data.rglob("*"), self.daemon.log_file):
            if file.is_file():
                self.assert_absent(file.read_bytes(), file.name)
        for pid in (self.daemon.pid, *self.daemon.machines()):
            for name in ("cmdline", "environ"):
                self.assert_absent(pathlib.Path(f"/proc/{pid}/{name}").read_bytes(), f"{name} of {pid}")
            self.assertRegex(pathlib.Path(f"/proc/{pid}/limits").read_text(encoding="ascii"), r"Max core file size +0 +0 ")
        self.assert_absent(self.answer.body, "the answer to POST")
        for path in ("", "/console", "/violations", "/stats"):
            self.assert_absent(self.client.request("GET", self.secret_lease.path + path).body, path)
        for path in ("/v1/events", "/v1/peers", "/v1/node"):
            self.assert_absent(self.client.request("GET", path).body, path)

    def seen_by_its_account(self, pid):
        """What another process of the daemon's account can read of a process."""
        names = ("environ", "auxv", "fd", "mem")
        return [name for name in names
                if not self.lab.prov.run(*self.lab.user.command("sh", "-c", f"test -r /proc/{pid}/{name}"),
                                         check=False).returncode]

    def test_3_no_process_of_its_account_looks_into_the_daemon(self):
        self.assertEqual([], self.seen_by_its_account(self.daemon.pid))
        for task in os.listdir(f"/proc/{self.daemon.pid}/task"):
            self.assertEqual([], self.seen_by_its_account(f"{self.daemon.pid}/task/{task}"))
        # Which the daemon itself needs, to look at its machines; a program that it starts is as any other.
        self.assertIn("fd", self.seen_by_its_account(self.daemon.machines()[0]))

    def test_4_a_secret_is_not_repeated_in_a_refusal(self):
        body = self.lab.request(self.consumer)
        body["consumer"]["preshared_key"] = self.preshared
        body["image"] = "absent"
        self.assert_absent(self.client.request("POST", "/v1/leases", body).body, "the problem document")
        body["consumer"]["preshared_key"] = self.preshared[:-2]
        answer = self.client.request("POST", "/v1/leases", body)
        self.assertEqual(422, answer.status)
        self.assertNotIn(self.preshared[:20], answer.body.decode())

    def test_5_the_seed_volume_is_gone_after_the_lease(self):
        self.secret_lease.release()
        self.secret_lease.wait_end()
        self.assert_nothing_left()
        self.assertEqual([], self.seeds())
        for file in self.daemon.folder.rglob("*"):
            if file.is_file() and self.daemon.images not in file.parents:
                self.assert_absent(file.read_bytes(), file.name)
