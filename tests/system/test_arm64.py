"""The arm64 micro guest, leased from the daemon and emulated. A program takes QEMU's place that runs another QEMU with the same
arguments but for the machine, as far as they name one.

It runs when $OMERTAD_ARM64 names the image, as `make check-arm64` does.
"""

import os
import pathlib
import shutil

from case import DaemonCase, wait_for

IMAGE = os.environ.get("OMERTAD_ARM64")
LIMIT_BOOT = 120.0  # a quarter of a minute on a quiet machine

# The probe of the accelerator has no network card: that stays the machine's own.
QEMU = """#!/bin/bash
case $* in
*netdev=net0*) ;;
*) exec qemu-system-x86_64 "$@" ;;
esac
words=()
for word; do
    case $word in
    q35,*) words+=(virt) ;;
    chardev:console) words+=({console}) ;;
    *) words+=("$word") ;;
    esac
done
exec qemu-system-aarch64 "${{words[@]}}"
"""
CONSOLES = {"pl011": "chardev:console",
            "virtio": "null -device virtio-serial-pci -device virtconsole,chardev=console"}  # as Virtualization.framework's


def load_tests(loader, tests, _pattern):
    """Nothing, unless the image is named."""
    return tests if IMAGE else loader.suiteClass()


class Arm64(DaemonCase):
    """One lease after another, with either console that such a machine may have."""

    @classmethod
    def setUpClass(cls):
        cls.qemu = cls.lab.folder / "arm64" / "qemu-system-other"
        cls.daemon = cls.lab.daemon("arm64", {"hypervisor": {"qemu": str(cls.qemu)}, "tunnel": {"timeoutS": int(LIMIT_BOOT)}},
                                    image=False)
        shutil.copytree(pathlib.Path(IMAGE), cls.daemon.images / "micro")
        cls.captured_before = cls.lab.oracle.mark()
        cls.use("pl011")
        cls.addClassCleanup(cls.daemon.stop)
        cls.daemon.start()

    @classmethod
    def use(cls, console):
        """Give the machines that start from now on a console."""
        cls.qemu.write_text(QEMU.format(console=CONSOLES[console]), encoding="ascii")
        cls.qemu.chmod(0o755)
        cls.lab.user.give(cls.qemu.parent)

    def check_life(self, console):
        """From power-on to its end."""
        self.use(console)
        lease = self.lease(image="micro", resources={"vcpus": 1, "memory_mib": 256, "disk_mib": 0})
        lease.wait_tunnel(LIMIT_BOOT)
        wait_for(lambda: "omertad-guest: ready" in lease.console(), LIMIT_BOOT, "ready line")
        shell = lease.shell(LIMIT_BOOT)
        self.addCleanup(shell.close)
        status, said = shell.run("uname -m; iptables -S")
        self.assertEqual(0, status)
        self.assertEqual(["aarch64", "-P INPUT DROP", "-P FORWARD DROP", "-P OUTPUT DROP"], said.splitlines()[:4])
        lease.release()
        self.assertEqual("released", lease.wait_end(LIMIT_BOOT)["reason"])
        self.assert_nothing_leaked()
        self.assert_nothing_left()

    def test_its_whole_life_with_a_serial_port(self):
        self.check_life("pl011")

    def test_its_whole_life_with_a_virtio_console(self):
        self.check_life("virtio")
