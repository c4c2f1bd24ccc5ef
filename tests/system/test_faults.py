"""The daemon's own life: signals, kill -9, a second daemon, what it runs as, and a machine that lacks something."""

import json
import pathlib
import signal
import stat

from case import DaemonCase, LabCase, wait_for
from daemon import open_files, process_arguments, process_field


class Shutdown(LabCase):
    """Daemons that end, in good order or not. Each test has one of its own."""

    def start(self, name, settings=None):
        """A daemon with one running lease. Return: (daemon, lease)"""
        daemon = self.lab.daemon(name, settings).start()
        self.addCleanup(daemon.stop)
        lease = self.lab.lease(daemon)
        lease.wait_state("running")
        return daemon, lease

    def assert_clean(self, daemon):
        """Nothing of a daemon that has ended is left but its data."""
        wait_for(lambda: not daemon.machines(), 20, "no hypervisor")
        self.assertEqual([], daemon.left_over())

    def after(self, daemon, lease):
        """Start the daemon again. Return: the lease's termination"""
        daemon.start()
        return lease.wait_end()

    def test_sigterm_ends_every_machine_with_provider_shutdown(self):
        daemon, lease = self.start("sigterm")
        self.assertEqual(0, daemon.stop())
        self.assert_clean(daemon)
        self.assertFalse(daemon.socket.exists())
        self.assertEqual("provider_shutdown", self.after(daemon, lease)["reason"])

    def test_sigint_does_the_same(self):
        daemon, lease = self.start("sigint")
        self.assertEqual(0, daemon.stop(signal.SIGINT))
        self.assert_clean(daemon)
        self.assertEqual("provider_shutdown", self.after(daemon, lease)["reason"])

    def test_an_accelerator_that_opens_and_boots_nothing_is_refused_once_a_boot(self):
        daemon = self.lab.daemon("accelerator", {"hypervisor": {"kvmDevice": "/dev/null"}}).start()
        self.addCleanup(daemon.stop)
        wait_for(lambda: daemon.client().get("/v1/node")["accelerator"]["known"], 10, "the trial")
        found = daemon.client().get("/v1/node")["accelerator"]
        self.assertEqual("tcg", found["name"])
        self.assertTrue(found["reason"])
        self.assertEqual(0, daemon.stop())
        daemon.start()
        wait_for(lambda: daemon.client().get("/v1/node")["accelerator"]["known"], 2, "the finding of before")
        self.assertEqual(found, daemon.client().get("/v1/node")["accelerator"])
        self.assertEqual(0, daemon.stop())

    def test_kill_9_takes_the_machines_along_when_they_are_not_to_be_kept(self):
        before = self.lab.oracle.mark()
        daemon, lease = self.start("kill9", {"onDaemonExit": "terminate"})
        self.assertTrue(daemon.machines())
        daemon.send_signal(signal.SIGKILL)
        self.assertEqual(-signal.SIGKILL, daemon.wait())
        wait_for(lambda: not daemon.machines(), 20, "the hypervisor dies with the daemon")
        self.assertEqual("recovery_failed", self.after(daemon, lease)["reason"])
        self.assertIn("recovery.failed", [event["type"] for event in lease.events()])
        wait_for(lambda: not daemon.left_over(), 20, "the stale folders are removed")
        self.assert_nothing_leaked(before)
        self.assertEqual(0, daemon.stop())

    def test_kill_9_while_a_machine_is_being_made(self):
        daemon = self.lab.daemon("kill9early").start()
        self.addCleanup(daemon.stop)
        lease = self.lab.lease(daemon)
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()
        self.assertEqual("recovery_failed", self.after(daemon, lease)["reason"])
        wait_for(lambda: not daemon.left_over(), 20, "the stale folders are removed")

    def test_a_second_daemon_on_the_same_data_folder_is_refused(self):
        daemon, lease = self.start("second")
        done = daemon.run("serve", "--config", daemon.config_file)
        self.assertNotIn(done.returncode, (0, -signal.SIGSEGV, -signal.SIGABRT), done.stderr)
        self.assertTrue(daemon.is_ready(), "the first one lives on")
        self.assertEqual("running", lease.read()["state"])
        self.assertTrue(done.stderr.strip())


class Confinement(DaemonCase):
    """What the daemon and its hypervisor run as."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.machine_lease = cls.lab.lease(cls.daemon)
        cls.machine_lease.wait_state("running")
        cls.hypervisor = cls.machine_lease.machine()

    def test_neither_has_a_capability_or_can_get_one(self):
        for name, pid in (("omertad", self.daemon.pid), ("qemu", self.hypervisor)):
            with self.subTest(name):
                self.assertEqual("0" * 16, process_field(pid, "CapEff"))
                self.assertEqual("0" * 16, process_field(pid, "CapPrm"))
                self.assertEqual("1", process_field(pid, "NoNewPrivs"))
                self.assertNotIn("0", process_field(pid, "Uid").split())

    def test_the_hypervisor_is_the_daemon_s_child(self):
        self.assertEqual(str(self.daemon.pid), process_field(self.hypervisor, "PPid"))

    def test_the_hypervisor_has_an_exact_set_of_descriptors(self):
        """Seed, kernel, initrd, unix sockets, its output's pipe, what QEMU makes itself: nothing of the daemon's."""
        links = [link.removesuffix(" (deleted)") for link in open_files(self.hypervisor)]
        daemon = set(open_files(self.daemon.pid))
        machine = self.daemon.runtime / "machines" / self.machine_lease.id
        image = self.daemon.images / "micro"
        files = {link for link in links if link.startswith("/") and link != "/dev/null"}
        self.assertLessEqual(files, {str(machine / "seed.iso"), str(image / "vmlinuz"), str(image / "initrd")})
        self.assertIn(str(machine / "seed.iso"), files)
        unix = {line.split()[6] for line in self.lab.prov.read("/proc/net/unix").splitlines()[1:]}
        for link in links:
            if link.startswith("socket:"):
                self.assertIn(link[8:-1], unix, "a socket that is not a unix socket")
                self.assertNotIn(link, daemon, "a socket of the daemon's")
            else:
                self.assertTrue(link == "/dev/null" or link in files or
                                link.startswith(("pipe:", "anon_inode:[event", "anon_inode:[signalfd")), link)

    def test_the_hypervisor_s_arguments_confine_it(self):
        arguments = process_arguments(self.hypervisor)
        self.assertIn("-nodefaults", arguments)
        self.assertIn("-no-user-config", arguments)
        self.assertTrue(arguments[arguments.index("-sandbox") + 1].startswith("on"))
        self.assertEqual("2", process_field(self.hypervisor, "Seccomp"))

    def test_the_daemon_leaves_no_core_and_no_open_folders(self):
        limits = pathlib.Path(f"/proc/{self.daemon.pid}/limits").read_text(encoding="ascii")
        core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
        self.assertEqual(["0", "0"], core.split()[4:6])
        for path in (self.daemon.data, self.daemon.runtime):
            self.assertEqual(0o700, stat.S_IMODE(path.stat().st_mode))
        self.assertEqual(0o600, stat.S_IMODE(self.daemon.socket.stat().st_mode))

    def test_the_accelerator_was_chosen_with_a_reason(self):
        node = self.client.get("/v1/node")
        accelerator = node["accelerator"]
        self.assertIn(accelerator["name"], ("kvm", "tcg"))
        self.assertTrue(accelerator["reason"])


class BadMachine(LabCase):
    """A machine or a configuration that lacks something: said at once, by name, and nothing half-made."""

    def fails(self, name, settings, word, code):
        """The daemon does not start: exit code and a message with @word in it."""
        daemon = self.lab.daemon(name, settings)
        done = daemon.run("serve", "--config", daemon.config_file)
        self.assertEqual(code, done.returncode, done.stderr)
        self.assertIn(word, done.stderr)
        return daemon

    def test_an_unknown_key_in_the_configuration_is_named(self):
        self.fails("badkey", {"network": {"colour": "blue"}}, "colour", 2)

    def test_a_configuration_that_is_not_json(self):
        daemon = self.lab.daemon("badjson")
        daemon.config_file.write_text("{", encoding="ascii")
        self.assertEqual(2, daemon.run("serve", "--config", daemon.config_file).returncode)

    def test_another_bind_address_than_loopback_is_refused(self):
        daemon = self.lab.daemon("badbind")
        config = json.loads(daemon.config_file.read_text(encoding="ascii"))
        text = json.dumps(config).replace(f"127.0.0.1:{daemon.port}", f"0.0.0.0:{daemon.port}")
        daemon.config_file.write_text(text, encoding="ascii")
        done = daemon.run("serve", "--config", daemon.config_file)
        self.assertEqual(2, done.returncode, done.stderr)

    def test_root_is_refused_unless_allowed(self):
        daemon = self.lab.daemon("asroot")
        done = self.lab.prov.run(daemon.program, "serve", "--config", daemon.config_file, check=False,
                                 env=daemon.environment)
        self.assertNotEqual(0, done.returncode)
        self.assertIn("--allow-root", done.stderr)

    def test_no_hypervisor(self):
        daemon = self.lab.daemon("noqemu", {"hypervisor": {"qemu": "/nonexistent/qemu-system-x86_64"}})
        done = daemon.run("serve", "--config", daemon.config_file)
        self.assertNotEqual(0, done.returncode)
        self.assertIn("/nonexistent/qemu-system-x86_64", done.stderr)
        self.assertIn("qemu-system-x86", done.stderr)

    def test_an_image_that_was_changed_is_rejected(self):
        for name in ("initrd", "vmlinuz"):
            with self.subTest(name):
                daemon = self.lab.daemon(f"changed{name}").start()
                file = daemon.images / "micro" / name
                content = bytearray(file.read_bytes())
                content[len(content) // 2] ^= 1
                file.write_bytes(content)
                lease = self.lab.lease(daemon)
                termination = lease.wait_end()
                self.assertEqual("image_rejected", termination["reason"])
                self.assertIn(name, termination["detail"])
                self.assertIn("image.rejected", [event["type"] for event in lease.events()])
                self.assertEqual([], daemon.left_over())
                self.assertEqual(0, daemon.stop())

    def test_an_image_file_that_is_missing(self):
        daemon = self.lab.daemon("noinitrd").start()
        (daemon.images / "micro" / "initrd").unlink()
        lease = self.lab.lease(daemon)
        self.assertEqual("image_rejected", lease.wait_end()["reason"])
        self.assertEqual([], daemon.left_over())
        self.assertEqual(0, daemon.stop())


class Commands(LabCase):
    """The other subcommands, as the ordinary user."""

    @classmethod
    def setUpClass(cls):
        cls.home = cls.lab.daemon("commands")

    def test_each_command_has_help(self):
        for words in ((), ("serve",), ("nat",), ("doctor",), ("image",)):
            with self.subTest(words):
                done = self.home.run(*words, "--help")
                self.assertEqual(0, done.returncode, done.stderr)
                self.assertIn("usage: omertad", done.stdout)

    def test_what_there_is_not_exits_2(self):
        for words in (("fly",), ("serve", "--colour"), ("serve", "operand"), ("--colour",), ("image", "paint")):
            with self.subTest(words):
                done = self.home.run(*words)
                self.assertEqual(2, done.returncode)
                self.assertTrue(done.stderr)

    def test_doctor_says_what_it_found_as_json_too(self):
        done = self.home.run("doctor", "--json", "--config", self.home.config_file)
        self.assertIn(done.returncode, (0, 1), done.stderr)
        self.assertTrue(json.loads(done.stdout))

    def test_image_verifies_and_notices_a_change(self):
        images = ("--images", self.home.images)
        self.assertIn("micro", self.home.run("image", "list", *images).stdout)
        self.assertEqual(0, self.home.run("image", "verify", "micro", *images).returncode)
        with open(self.home.images / "micro/initrd", "ab") as file:
            file.write(b"x")
        done = self.home.run("image", "verify", "micro", *images)
        self.assertEqual(1, done.returncode)
        self.assertIn("initrd", done.stderr + done.stdout)
