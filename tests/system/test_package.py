"""The Debian package: without errors by lintian; installed in a throwaway root it leases a VM, as a service too, and purged it is gone.

The root is an overlay over the machine's own, so that dpkg, its database and the packages that ours depends on are
real, and what is written goes away with it. With OMERTAD_BARE_ROOT it lies over that folder instead: the smallest Debian
with what our package says that it depends on, and systemd for its service (make check-bare).
"""

import os
import pathlib
import subprocess

from case import LabCase, wait_for
from daemon import ROOT
from user_manager import Missing, UserManager

BUILD_LIMIT_S = 300


def run(*argv, **options):
    """Run a command to its end. Return: subprocess.CompletedProcess with text"""
    return subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False,
                          timeout=BUILD_LIMIT_S, **options)


class Package(LabCase):
    """One package, built once."""

    @classmethod
    def setUpClass(cls):
        if os.geteuid() != 0 or not cls.lab.user.real_root:
            raise cls.skipTest(cls, "an overlay with dpkg's database needs root")
        built = run("make", "--no-print-directory", "deb", cwd=ROOT)
        if built.returncode != 0:
            raise AssertionError(built.stdout + built.stderr)
        cls.file = next((ROOT / "build/deb").glob("omertad_*.deb"))
        cls.mounts = []
        cls.addClassCleanup(cls._unmount)
        layers = pathlib.Path("/run/package")
        cls._mount("-t", "tmpfs", "tmpfs", layers)
        for name in ("upper", "work", "root"):
            (layers / name).mkdir()
        cls.root = layers / "root"
        lower = pathlib.Path(os.environ.get("OMERTAD_BARE_ROOT", "/")).resolve()
        cls._mount("-t", "overlay", "overlay", "-o", f"lowerdir={lower},upperdir={layers}/upper,workdir={layers}/work",
                   cls.root)
        for name in ("dev", "proc", "sys"):
            cls._mount("--rbind", f"/{name}", cls.root / name)
        cls._mount("-t", "tmpfs", "tmpfs", cls.root / "tmp")

    @classmethod
    def _mount(cls, *arguments):
        target = pathlib.Path(arguments[-1])
        target.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", *map(str, arguments)], check=True)
        cls.mounts.append(target)

    @classmethod
    def _unmount(cls):
        for target in reversed(cls.mounts):
            subprocess.run(["umount", "--lazy", str(target)], check=True)

    def _inside(self, *argv):
        done = self.lab.prov.run("chroot", self.root, *argv, check=False, timeout=120)
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)
        return done.stdout

    def test_1_lintian_finds_no_error(self):
        done = run("lintian", "--fail-on", "error", "--allow-root", self.file)
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)

    def test_2_installed_it_leases_a_vm(self):
        (self.root / "omertad.deb").write_bytes(self.file.read_bytes())
        self._inside("dpkg", "--install", "/omertad.deb")
        self.assertEqual("install ok installed", self._inside("dpkg-query", "-W", "-f", "${Status}", "omertad"))
        self.assertIn("omertad", self._inside("/usr/bin/omertad", "--version"))

        daemon = self.lab.daemon("package")
        self._mount("--bind", daemon.folder, self.root / daemon.folder.relative_to("/"))
        daemon.root, daemon.program = self.root, "/usr/bin/omertad"
        daemon.start()
        self.addCleanup(daemon.stop)
        self.assertEqual(str(self.root / "usr/bin/omertad"), os.readlink(f"/proc/{daemon.pid}/exe"))
        lease = self.lab.lease(daemon)
        self.assertEqual("established", lease.wait_tunnel()["tunnel"]["state"])
        lease.release()
        self.assertEqual("released", lease.wait_end()["reason"])
        wait_for(lambda: not daemon.left_over(), 20, "nothing left over")

    def test_3_its_service_leases_a_vm(self):
        daemon = self.lab.daemon("service")
        self._mount("--bind", daemon.folder, self.root / daemon.folder.relative_to("/"))
        daemon.root, daemon.program = self.root, "/usr/bin/omertad"
        home = daemon.folder / "home"
        (home / ".config/omertad").mkdir(parents=True)
        (home / ".config/omertad/omertad.json").write_bytes(daemon.config_file.read_bytes())
        self.lab.user.give(home)
        try:
            manager = UserManager(self.lab, daemon, self.addCleanup, self.root)
        except Missing as reason:
            self.skipTest(str(reason))
        self.assertEqual("", manager.ask("start", "omertad.service"), manager.ask("status", "omertad.service"))
        self.assertEqual("/usr/lib/systemd/user/omertad.service", manager.property("FragmentPath"))
        self.assertEqual(str(self.root / "usr/bin/omertad"), os.readlink(f"/proc/{manager.property('MainPID')}/exe"))
        lease = self.lab.lease(daemon)
        self.assertEqual("established", lease.wait_tunnel()["tunnel"]["state"])
        lease.release()
        self.assertEqual("released", lease.wait_end()["reason"])
        self.assertEqual("", manager.ask("stop", "omertad.service"))
        wait_for(lambda: not daemon.left_over(), 20, "nothing left over")

    def test_4_purged_it_is_gone(self):
        files = [line for line in self._inside("dpkg-query", "-L", "omertad").splitlines()
                 if (self.root / line[1:]).is_file()]
        self.assertGreater(len(files), 20)
        self._inside("dpkg", "--purge", "omertad")
        self.assertEqual([], [file for file in files if (self.root / file[1:]).exists()])
        self.assertNotEqual(0, run("chroot", self.root, "dpkg-query", "-W", "omertad").returncode)
        self.assertFalse((self.root / "usr/share/omertad").exists())
