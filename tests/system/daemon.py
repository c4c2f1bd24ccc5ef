"""The daemon under test: started as an ordinary user inside the provider's namespace, and spoken to as one does."""

import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time
from typing import NamedTuple

from contract import Contract

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONTRACT = Contract(ROOT / "openapi.yaml")
UID = 61234  # nobody's: what runs under it has no rights by accident
LIMIT_START = 15.0


def wait_for(predicate, limit, what, every=0.02):
    """Wait until @predicate returns something true. Return: that. Raise: TimeoutError naming @what"""
    until = time.monotonic() + limit
    while True:
        found = predicate()
        if found:
            return found
        if time.monotonic() > until:
            raise TimeoutError(f"{what}: not within {limit} s")
        time.sleep(every)


class Answer(NamedTuple):
    """One HTTP response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self):
        """The body as a value."""
        return json.loads(self.body)

    @property
    def slug(self):
        """The problem's kind, "" for what is none."""
        return self.json["type"].rpartition("/")[2] if self.status >= 400 else ""

    @property
    def pointers(self):
        """JSON pointers of the fields that a problem names."""
        return [error.get("pointer") for error in self.json.get("errors", [])]


class User:
    """The ordinary user as whom the daemon runs: a numeric uid, on the machine or in a user namespace of the lab's."""

    uid = UID

    def __init__(self, starter):
        self.real_root = starter == 0  # the lab may do what no namespace may

    def command(self, *argv):
        """The argv that runs @argv as this user, without any capability, and dying with this process."""
        return ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--no-new-privs",
                "--bounding-set=-all", "--inh-caps=-all", "--pdeathsig=KILL", "--", *map(str, argv)]

    def give(self, path):
        """Make this user the owner of a file or folder and all in it."""
        for item in (path, *path.rglob("*")):
            os.chown(item, UID, UID, follow_symlinks=False)


class _Connection(http.client.HTTPConnection):
    """HTTP over a socket that a function makes."""

    def __init__(self, opener, timeout):
        super().__init__("localhost", timeout=timeout)
        self._opener = opener

    def connect(self):
        self.sock = self._opener()
        self.sock.settimeout(self.timeout)


class Client:
    """Requests to one daemon, over its unix socket or over TCP. Each answer must be one that openapi.yaml knows."""

    def __init__(self, opener, headers=None):
        self._opener = opener
        self._headers = headers or {}

    def request(self, method, path, body=None, headers=None, timeout=10.0):
        """One request on a connection of its own. @body: bytes as they are, anything else as JSON. Return: Answer"""
        head = dict(self._headers)
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            head["Content-Type"] = "application/json"
        head.update(headers or {})
        connection = _Connection(self._opener, timeout)
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all of the body was sent
                connection.request(method, path, body, {key: value for key, value in head.items() if value is not None})
            response = connection.getresponse()
            answer = Answer(response.status, response.headers, response.read())
        finally:
            connection.close()
        CONTRACT.check(method, path, answer.status, answer.headers, answer.body, body)
        return answer

    def get(self, path, status=200):
        """The JSON of a GET that must succeed."""
        answer = self.request("GET", path)
        if answer.status != status:
            raise AssertionError(f"GET {path}: {answer.status} {answer.body[:400]!r}")
        return answer.json

    def items(self, path):
        """All items of a list, page after page."""
        found, cursor = [], None
        while True:
            glue = "&" if "?" in path else "?"
            page = self.get(path + (f"{glue}after={cursor}" if cursor else ""))
            found += page["items"]
            cursor = page["next_cursor"]
            if not cursor or not page["items"]:
                return found


def process_field(pid, name):
    """A field of /proc/PID/status, as "CapEff"; None once the process is gone."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return value.strip()
    return None


def process_arguments(pid):
    """argv of a process, [] once it is gone."""
    with contextlib.suppress(OSError):
        return [os.fsdecode(word) for word in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]]
    return []


def process_started_at(pid):
    """When a process started, wall clock in seconds; from field 22 of its stat, in ticks since boot."""
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    ticks = int(stat.rpartition(")")[2].split()[19])
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")


def open_files(pid):
    """Where the descriptors of a process lead, [] once it is gone."""
    found = []
    with contextlib.suppress(OSError):
        for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.append(os.readlink(entry))
    return found


def hypervisors():
    """Pids of all live hypervisors that we may look at."""
    pids = [int(entry.name) for entry in pathlib.Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if "qemu-system" in (process_arguments(pid) or [""])[0]]


class Daemon:
    """One installation of the daemon: folders, configuration, process."""

    def __init__(self, namespace, user, folder, program, image_folder, port, settings=None):
        self._namespace, self._user = namespace, user
        self.folder, self.port = folder, port
        self.program = folder / "omertad"
        self.config_file = folder / "config.json"
        self.log_file = folder / "stderr.log"
        self.data, self.runtime, self.images = folder / "data", folder / "runtime", folder / "images"
        self.socket = self.runtime / "omertad.sock"
        self.extra_environment = {}
        self.root = None  # another root folder that the program runs in
        self._process = None
        self._log = None
        folder.mkdir(mode=0o700)
        for path in (self.data, self.runtime, self.images, folder / "home"):
            path.mkdir(mode=0o700)
        shutil.copy(program, self.program)
        if image_folder:
            shutil.copytree(image_folder, self.images / "micro")
        self.configure(settings or {})

    def configure(self, settings):
        """Write the configuration: the lab's own with @settings merged over it."""
        config = merged(self.base_settings(), settings)
        self.config_file.write_text(json.dumps(config, indent=2), encoding="ascii")
        self._user.give(self.folder)

    def base_settings(self):
        """The configuration of a lab's daemon."""
        return {
            "listen": {"tcp": f"127.0.0.1:{self.port}"},
            "paths": {"data": str(self.data), "runtime": str(self.runtime), "images": str(self.images)},
            "capacity": {"leases": 8, "vcpus": 8, "memoryMib": 4096, "diskMib": 1024},
        }

    # ---- process

    @property
    def pid(self):
        """Process id while it runs."""
        return self._process.pid

    @property
    def running(self):
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def environment(self):
        """Only what a service manager would give."""
        home = str(self.folder / "home")
        keep = {key: value for key, value in os.environ.items() if key.endswith("SAN_OPTIONS")}
        return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": home, "XDG_RUNTIME_DIR": str(self.runtime), **keep,
                **self.extra_environment}

    def _as_user(self, *argv):
        words = self._user.command(*argv)
        return ["chroot", str(self.root), *words] if self.root else words

    def command(self, *arguments):
        """The argv of the daemon's program as the ordinary user."""
        return self._as_user(self.program, *arguments)

    def run(self, *arguments, timeout=20):
        """Run the program to its end, as the ordinary user. Return: subprocess.CompletedProcess"""
        return self._namespace.run(*self.command(*arguments), check=False, timeout=timeout, env=self.environment,
                                   cwd=self.folder)

    def start(self, wait=True, through=(), extra=()):
        """Start `serve` with options @extra, by a program that becomes it when @through names one. Return: self"""
        self._log = open(self.log_file, "ab")
        self._process = self._namespace.start(
            *self._as_user(*through, self.program, "serve", "--config", self.config_file, *extra), cwd=self.folder,
            env=self.environment, stdout=self._log, stderr=self._log)
        if wait:
            wait_for(self.is_ready, LIMIT_START, "the daemon is ready")
        return self

    def is_ready(self):
        """Whether readyz says so. Raise: RuntimeError once the daemon has ended"""
        if self._process.poll() is not None:
            raise RuntimeError(f"the daemon ended with {self._process.returncode}: {self.log()[-2000:]}")
        try:
            return self.client().request("GET", "/readyz").status == 200
        except (OSError, http.client.HTTPException):
            return False

    def send_signal(self, number):
        """Send a signal to the daemon's own process."""
        self._process.send_signal(number)

    def detach(self):
        """Let go of the process that serves, for another one to take its place. Return: the process"""
        process, self._process = self._process, None
        self._log.close()
        return process

    def wait(self, limit=20.0):
        """Wait for the daemon's end. Return: its exit code, negative for a signal"""
        code = self._process.wait(limit)
        self._process = None
        self._log.close()
        return code

    def stop(self, number=signal.SIGTERM, limit=20.0):
        """Ask the daemon to end; SIGKILL if it does not. Return: exit code, None when it was not running"""
        if self._process is None:
            return None
        self.send_signal(number)
        try:
            return self.wait(limit)
        except subprocess.TimeoutExpired:
            self.send_signal(signal.SIGKILL)
            self.wait()
            raise

    # ---- what can be seen of it

    def log(self):
        """All of its standard error."""
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""

    def descriptors(self):
        """Number of open descriptors of the daemon."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def resident_kib(self):
        """Memory of the daemon."""
        return int(process_field(self.pid, "VmRSS").split()[0])

    def machines(self):
        """Pids of the hypervisors that belong to this installation, whether or not the daemon still lives.

        Their arguments name no path, but they hold files of the installation's folder open.
        """
        here = str(self.folder) + "/"
        return [pid for pid in hypervisors() if any(link.startswith(here) for link in open_files(pid))]

    def left_over(self):
        """What a lease must not leave behind: hypervisors, and anything but the control plane's socket at runtime."""
        files = [path for path in self.runtime.rglob("*") if path not in (self.socket, self.runtime / "machines")]
        return [f"process {pid}" for pid in self.machines()] + [str(path.relative_to(self.folder)) for path in files]

    # ---- the API

    def client(self, headers=None):
        """Requests over the unix socket."""
        return Client(self._open_unix, headers)

    def tcp_client(self, headers=None, namespace=None):
        """Requests over TCP on the provider's loopback."""
        def opener():
            handle = (namespace or self._namespace).socket(socket.AF_INET, socket.SOCK_STREAM)
            handle.settimeout(5)
            handle.connect(("127.0.0.1", self.port))
            return handle
        return Client(opener, {"Host": f"127.0.0.1:{self.port}", **(headers or {})})

    def _open_unix(self):
        handle = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            handle.connect(str(self.socket))
        except OSError:
            handle.close()
            raise
        return handle

    def curl(self, *words):
        """The argv of a curl call over the unix socket, as the ordinary user."""
        return self._user.command("curl", "--silent", "--show-error", "--noproxy", "*", "--unix-socket", self.socket,
                                  *words)


def merged(base, over):
    """@base with the members of @over put in, objects member by member."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result
