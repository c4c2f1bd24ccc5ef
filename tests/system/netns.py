"""Namespaces for the lab, made and held by this one process.

isolate() puts the calling process into a mount and a network namespace of its own. Each further network namespace is
held by a descriptor alone. So nothing has to be cleaned up: when the process ends, for whatever reason, the
namespaces, the interfaces in them and the lab's files (a tmpfs in the private mount namespace) end with it.

Started as an ordinary user, isolate() makes a user namespace first, in which that user is root and has subordinate ids.
"""

import contextlib
import ctypes
import os
import pathlib
import pwd
import shutil
import signal
import socket
import stat
import subprocess

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
MS_BIND = 0x1000
MS_REC_PRIVATE = 0x4000 | 0x40000
PR_SET_PDEATHSIG = 1
IDS = 65536  # of a user namespace, as useradd(8) gives them

_libc = ctypes.CDLL(None, use_errno=True)


class NotPossible(RuntimeError):
    """The machine does not allow what the lab needs; the message says what to do."""


def _call(name, *arguments):
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _subordinate(path):
    """First of the ids that this user may give to a namespace. Raise: NotPossible"""
    names = [str(os.geteuid())]
    with contextlib.suppress(KeyError):
        names.insert(0, pwd.getpwuid(os.geteuid()).pw_name)
    file = pathlib.Path(path)
    for line in file.read_text(encoding="ascii").splitlines() if file.exists() else []:
        name, first, count = line.split(":")
        if name in names and int(count) >= IDS:
            return int(first)
    raise NotPossible(f"{names[0]} has no {IDS} subordinate ids in {path}: start as root, or "
                      f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {names[0]}")


def _enter_user_namespace():
    """Become root of a fresh user namespace that knows this user as root, and the ordinary users that it needs.

    With one id alone the daemon would have to live in a namespace inside this one, and none could look at it or follow it."""
    maps = [(shutil.which(tool), str(own), str(_subordinate(path))) for tool, own, path in
            (("newuidmap", os.geteuid(), "/etc/subuid"), ("newgidmap", os.getegid(), "/etc/subgid"))]
    if not all(tool for tool, _, _ in maps):
        raise NotPossible("newuidmap is missing: apt install uidmap, or start as root")
    ours, theirs = os.pipe()
    mapper = os.fork()  # it stays outside: a namespace's ids are given to it by its parent
    if mapper == 0:
        os.close(theirs)
        told = os.read(ours, 1)
        done = [subprocess.run([tool, str(os.getppid()), "0", own, "1", "1", first, str(IDS - 1)], check=False).returncode
                for tool, own, first in maps] if told else [1]
        os._exit(int(any(done)))
    os.close(ours)
    try:
        _call("unshare", CLONE_NEWUSER)
        os.write(theirs, b"!")
    except OSError as error:
        raise NotPossible(f"not root, and no user namespace to be had ({error}): "
                          "start as root, or allow unprivileged user namespaces") from error
    finally:
        os.close(theirs)
        _, status = os.waitpid(mapper, 0)
    if status != 0:
        raise NotPossible("newuidmap gave this user's subordinate ids to no namespace: start as root")


def _open_tun():
    """Let every user open /dev/net/tun, as distributions have it, in this mount namespace alone."""
    try:
        _bind_tun()
    except OSError as error:
        raise NotPossible(f"/dev/net/tun: {error.strerror}: direct mode needs it at mode 0666, as distributions have "
                          "it, or a container that may make device nodes") from error


def _bind_tun():
    os.mknod("/run/tun", 0o666 | stat.S_IFCHR, os.stat("/dev/net/tun").st_rdev)
    os.chmod("/run/tun", 0o666)
    _call("mount", b"/run/tun", b"/dev/net/tun", None, MS_BIND, None)


def isolate():
    """Leave the machine's network and mounts for private ones. Must run before any thread starts.

    Return: the uid on the machine: 0, or that of the user who is root in the new user namespace only.
    """
    uid = os.geteuid()
    if uid != 0:
        _enter_user_namespace()
    try:
        _call("unshare", CLONE_NEWNS | CLONE_NEWNET)
        _call("mount", b"none", b"/", None, MS_REC_PRIVATE, None)
        _call("mount", b"tmpfs", b"/run", b"tmpfs", 0, b"mode=755")
    except OSError as error:
        raise NotPossible(f"cannot make private namespaces ({error}): start as root outside of a container, "
                          "or in one that has CAP_SYS_ADMIN") from error
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        raise NotPossible(f"/dev/net/tun: {error.strerror}: the consumer's WireGuard needs it; start as root, or "
                          "set it to mode 0666 as distributions have it") from error
    if uid == 0 and os.stat("/dev/net/tun").st_mode & 0o006 != 0o006:
        _open_tun()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    return uid


def die_with_parent():
    """For a child between fork and exec: be killed when this process ends."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Namespace:
    """A network namespace, alive as long as this object's descriptor, a process or a socket in it."""

    def __init__(self, name):
        self.name = name
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _call("unshare", CLONE_NEWNET)
            self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            _call("setns", home, CLONE_NEWNET)
        finally:
            os.close(home)
        self.path = f"/proc/{os.getpid()}/fd/{self.fd}"
        self.run("ip", "link", "set", "lo", "up")

    @contextlib.contextmanager
    def entered(self):
        """The calling thread is in this namespace for the body. A socket stays where it was made."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _call("setns", self.fd, CLONE_NEWNET)
            yield
        finally:
            _call("setns", home, CLONE_NEWNET)
            os.close(home)

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_DGRAM, protocol=0):
        """A socket of this namespace."""
        with self.entered():
            return socket.socket(family, kind, protocol)

    def read(self, path):
        """Text of a file under /proc/net or /proc/sys/net, as this namespace sees it."""
        with self.entered(), open(path.replace("/proc/net/", "/proc/thread-self/net/"), encoding="ascii") as file:
            return file.read()

    def command(self, *argv):
        """The argv that runs @argv in this namespace."""
        return ["nsenter", f"--net={self.path}", "--", *map(str, argv)]

    def run(self, *argv, check=True, timeout=30, **options):
        """Run a command in this namespace to its end. Return: subprocess.CompletedProcess with text output."""
        return subprocess.run(self.command(*argv), check=check, timeout=timeout, text=True, stdin=subprocess.DEVNULL,
                              capture_output=True, preexec_fn=die_with_parent, **options)

    def start(self, *argv, **options):
        """Start a command in this namespace that dies with this process. Return: subprocess.Popen"""
        return subprocess.Popen(self.command(*argv), preexec_fn=die_with_parent,
                                **{"stdin": subprocess.DEVNULL, **options})

    def processes(self):
        """Every process in this namespace: [(pid, what it runs)]."""
        here, found = os.fstat(self.fd).st_ino, []
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit() and entry.name != str(os.getpid()):
                with contextlib.suppress(OSError):
                    if (entry / "ns/net").stat().st_ino == here:
                        words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                        found.append((int(entry.name), words.strip()))
        return found

    def close(self):
        """Let go of the namespace."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
