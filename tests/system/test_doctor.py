"""`omertad doctor` on machines that each lack one thing: what is wrong, why it matters, and what mends it."""

import json
import os
import shutil
import socket

from case import LabCase

# Names a program that does nothing and says so; enough to be found, not to run a guest.
STUB = "#!/bin/sh\ncase \"$1\" in --version) echo 'QEMU emulator version 0'; exit 0 ;; esac\nexit 1\n"


class Doctor(LabCase):
    """One home per test, broken in one way."""

    def setUp(self):
        self.home = self.lab.daemon("doc-" + self._testMethodName[-16:])
        self.addCleanup(self.home.stop)

    def _ask(self, *arguments, before=(), status=None):
        """Findings by check. @before: words before the program, as of prlimit. The exit code must fit them."""
        words = self.home.command("doctor", "--json", "--config", self.home.config_file, *arguments)
        at = words.index(str(self.home.program))
        done = self.lab.prov.run(*words[:at], *before, *words[at:], check=False, timeout=60, env=self.home.environment,
                                 cwd=self.home.folder)
        document = json.loads(done.stdout)
        levels = {row["level"] for row in document["findings"]}
        self.assertEqual("fail" not in levels, document["ok"])
        self.assertEqual(0 if document["ok"] else 1, done.returncode, done.stderr)
        if status is not None:
            self.assertEqual(status, done.returncode, done.stdout)
        for row in document["findings"]:
            if row["level"] in ("warn", "fail"):
                self.assertTrue(row["why"], row)
        return {row["check"]: row for row in document["findings"]}

    def _expect(self, row, level, mend):
        self.assertEqual(level, row["level"], row)
        self.assertIn(mend, row["mend"] or "", row)

    def test_a_good_machine_can_serve(self):
        found = self._ask(status=0)
        for check in ("config", "hypervisor", "sandbox", "image", "data", "runtime", "daemon", "port", "memory",
                      "disk", "pasta"):
            self.assertEqual("ok", found[check]["level"], found[check])
        for check in ("user", "accelerator", "namespaces", "tun", "direct", "descriptors", "threads", "clock"):
            self.assertIn(check, found)
        lines = self.home.run("doctor", "--config", self.home.config_file).stdout.splitlines()
        words = [line.split()[:2] for line in lines if line[0] != " "]
        self.assertEqual([[row["level"], check] for check, row in found.items()], words)

    def test_without_a_hypervisor(self):
        self.home.configure({"hypervisor": {"qemu": "qemu-that-is-not-there"}})
        found = self._ask(status=1)
        self._expect(found["hypervisor"], "fail", "apt install qemu-system-x86")
        self.assertNotIn("accelerator", found)

    def test_a_hypervisor_without_its_filter(self):
        stub = self.home.folder / "stub"
        stub.write_text(STUB, encoding="ascii")
        stub.chmod(0o755)
        self.home.configure({"hypervisor": {"qemu": str(stub)}})
        found = self._ask(status=1)
        self._expect(found["sandbox"], "fail", "seccomp")

    def test_without_the_device_of_kvm(self):
        self.home.configure({"hypervisor": {"kvmDevice": "/nowhere/kvm"}})
        found = self._ask(status=0)
        self._expect(found["accelerator"], "warn", "usermod -aG kvm")
        self.assertIn("ten times", found["accelerator"]["why"])

    def test_without_pasta(self):
        folder = self.home.folder / "bin"
        folder.mkdir()
        (folder / "qemu-system-x86_64").symlink_to(shutil.which("qemu-system-x86_64"))
        without = ("env", f"PATH={folder}")
        self.home.configure({"network": {"mode": "direct"}})
        found = self._ask(before=without, status=1)
        self._expect(found["pasta"], "fail", "apt install passt")
        self.assertEqual("fail", found["direct"]["level"])
        self.home.configure({"network": {"mode": "filtered", "allowModeOverride": True}})
        self._expect(self._ask(before=without)["pasta"], "warn", "apt install passt")
        self.home.configure({})
        self._expect(self._ask(before=without, status=0)["pasta"], "note", "apt install passt")

    def test_with_a_pasta_that_does_not_run(self):
        stub = self.home.folder / "pasta"
        stub.write_text("#!/bin/sh\nexit 1\n", encoding="ascii")
        stub.chmod(0o755)
        path = f"PATH={self.home.folder}:{os.environ['PATH']}"
        self._expect(self._ask(before=("env", path), status=0)["pasta"], "note", "pasta --version says why")

    def test_without_an_image_and_with_a_broken_one(self):
        with open(self.home.images / "micro/initrd", "ab") as file:
            file.write(b"x")
        found = self._ask(status=1)
        self._expect(found["image"], "fail", f"build-micro.sh {self.home.images}/micro")
        shutil.rmtree(self.home.images / "micro")
        self._expect(self._ask(status=1)["image"], "fail", "build-micro.sh")

    def test_folders_that_others_can_read(self):
        self.home.data.chmod(0o755)
        self.home.runtime.chmod(0o750)
        found = self._ask(status=1)
        self._expect(found["data"], "fail", f"chmod 700 {self.home.data}")
        self._expect(found["runtime"], "fail", f"chmod 700 {self.home.runtime}")

    def test_a_folder_that_is_none(self):
        file = self.home.folder / "file"
        file.touch()
        self.assertEqual("fail", self._ask("--data", file, status=1)["data"]["level"])

    def test_few_descriptors(self):
        found = self._ask(before=("prlimit", "--nofile=600:600"))
        self._expect(found["descriptors"], "warn", "nofile 1056")
        found = self._ask(before=("prlimit", "--nofile=330:330"), status=1)
        self._expect(found["descriptors"], "fail", "lower capacity.leases")

    def test_more_promised_than_there_is(self):
        self.home.configure({"capacity": {"memoryMib": 60 << 20, "diskMib": 1 << 29}})
        found = self._ask()
        self._expect(found["memory"], "warn", "memoryMib")
        self._expect(found["disk"], "warn", "diskMib")

    def test_a_port_that_is_taken(self):
        with self.lab.prov.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
            taken.bind(("127.0.0.1", self.home.port))
            taken.listen()
            found = self._ask(status=1)
        self._expect(found["port"], "fail", "--listen 127.0.0.1:0")

    def test_a_daemon_that_serves_is_seen_and_keeps_its_port(self):
        self.home.start()
        found = self._ask(status=0)
        self.assertIn(str(self.home.socket), found["daemon"]["finding"])
        self.assertIn("running daemon", found["port"]["finding"])
        shutil.rmtree(self.home.images / "micro")
        self._expect(self._ask(status=1)["daemon"], "warn", "log")

    def test_a_bare_machine_is_told_all_of_it(self):
        empty = self.home.folder / "empty"
        empty.mkdir()
        found = self._ask("--images", empty, "--data", self.home.folder / "none", before=("env", f"PATH={empty}"),
                          status=1)
        for check in ("hypervisor", "image"):
            self.assertEqual("fail", found[check]["level"])
        self.assertEqual("note", found["direct"]["level"])
        self.assertEqual("ok", found["data"]["level"])
        self.assertFalse(os.path.exists(self.home.folder / "none"), "it changes nothing")
