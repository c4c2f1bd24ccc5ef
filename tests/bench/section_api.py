"""The API: reads at a rate beside a bare libmicrohttpd, durable leases beside bare commits of the same rows, a thousand
leases on one daemon, and readers of the event stream.

The loads are api_bench (tests/bench/api), which measures from the moment a request was due. Daemon and database lie on
the disk of the build folder, because what is measured is durable there.
"""

import base64
import http.client
import json
import os
import pathlib
import re
import resource
import shutil
import socket
import sqlite3
import statistics
import subprocess
import tempfile
import time

TITLE = "API: reads, durable leases, a thousand leases, readers of events"

LEASES = 1000
RATE, SECONDS = 1000, 2
POSTS, CLIENTS = 200, 8
READERS, TOLD = 200, 20
LIMIT_S = 120
NOBODY = 61234


def body():
    """An external lease with %u for its consumer's port."""
    key = base64.b64encode(bytes(range(1, 33))).decode()
    return json.dumps({"attachment": "external", "resources": {"vcpus": 1, "memory_mib": 1},
                       "consumer": {"public_key": key, "endpoint": "198.51.100.2:%u", "tunnel_ip": "10.99.0.1"},
                       "vm": {"tunnel_ip": "10.99.0.2"}})


def as_user(uid):
    """For a child: an ordinary user with all the descriptors that it may have."""
    def become():
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        if uid:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
    return become


class Daemon:
    """One daemon with room for many external leases."""

    def __init__(self, build):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bench-api-", dir=build))
        # As /run/user is: short paths, and sockets in memory where there is such a place.
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.runtime = pathlib.Path(tempfile.mkdtemp(prefix="omertad-", dir=memory))
        self.program = self.folder / "omertad"
        shutil.copy(build / "omertad", self.program)
        self.data = self.folder / "data"
        many = 4 * LEASES
        config = {"listen": {"tcp": "127.0.0.1:0"}, "tunnel": {"timeoutS": 0},
                  "paths": {"data": str(self.data), "runtime": str(self.runtime),
                            "images": str(self.folder)},
                  "capacity": {"leases": LEASES + 1, "vcpus": many, "memoryMib": many, "diskMib": 1}}
        self.data.mkdir(mode=0o700)
        (self.folder / "config.json").write_text(json.dumps(config), encoding="ascii")
        self.uid = NOBODY if os.geteuid() == 0 else 0
        if self.uid:
            self._check_way()
            for path in (self.data, self.runtime, self.folder):
                os.chown(path, self.uid, self.uid)
        self.process = None

    def _check_way(self):
        """Say so at once when an ordinary user cannot come here."""
        for parent in self.folder.parents:
            if os.stat(parent).st_mode & 0o001 == 0:
                raise RuntimeError(f"{parent} may not be entered by an ordinary user; run make bench as one")

    def __enter__(self):
        self.log = open(self.folder / "log", "w+", encoding="utf-8")
        self.process = subprocess.Popen([self.program, "serve", "--config", self.folder / "config.json"],
                                        stderr=self.log, preexec_fn=as_user(self.uid), cwd=self.folder)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            found = re.search(r"url=http://127\.0\.0\.1:(\d+)", (self.folder / "log").read_text(encoding="utf-8"))
            if found:
                self.port = int(found.group(1))
                self.token = (self.data / "token").read_text(encoding="ascii").strip()
                return self
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError((self.folder / "log").read_text(encoding="utf-8")[-2000:])

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(60)
        self.log.close()
        shutil.rmtree(self.folder)
        shutil.rmtree(self.runtime, ignore_errors=True)

    def get(self, path):
        """The JSON of a GET."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}"})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"GET {path}: {answer.status} {text[:300]!r}")
        return json.loads(text)

    def running(self):
        """How many leases run."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {self.token}"})
        text = connection.getresponse().read().decode()
        connection.close()
        found = re.search(r'omertad_leases\{state="running",mode="filtered"\} (\d+)', text)
        return int(found.group(1)) if found else 0

    def await_running(self, count):
        """Wait until so many leases run."""
        until = time.monotonic() + LIMIT_S
        while self.running() < count:
            if time.monotonic() > until:
                raise RuntimeError(f"{self.running()} of {count} leases run")
            time.sleep(0.05)

    def resident_kib(self):
        """Memory of the daemon."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

    def switches(self):
        """How often its threads gave up the processor of themselves: each wake-up ends in one."""
        total = 0
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", (task / "status").read_text(encoding="ascii"), re.M)
            total += int(found.group(1))
        return total


def load(options, *words):
    """Run one load. Return: what it says"""
    done = subprocess.run([options.build / "api_bench", *map(str, words)], capture_output=True, text=True,
                          timeout=LIMIT_S)
    if done.returncode != 0:
        raise RuntimeError(f"api_bench {words[0]}: {done.stderr[-1000:]}")
    return json.loads(done.stdout)


def processor_s(pid):
    """Processor time of a process so far: user and system, fields 14 and 15 of its stat."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port():
    """A TCP port that nobody has."""
    with socket.socket() as handle:
        handle.bind(("127.0.0.1", 0))
        return handle.getsockname()[1]


def template(daemon, path):
    """A database of the daemon's schema with the rows of one lease's making to copy."""
    source, target = sqlite3.connect(daemon.data / "omertad.db"), sqlite3.connect(path)
    source.backup(target)
    source.close()
    target.executescript("""
        CREATE TABLE template_leases AS SELECT * FROM leases LIMIT 1;
        UPDATE template_leases SET state = 'pending', generation = 1;
        CREATE TABLE template_peers AS SELECT peers.* FROM peers LIMIT 1;
        CREATE TABLE template_events AS SELECT * FROM events WHERE type = 'lease.created' LIMIT 1;""")
    target.commit()
    target.close()


def median(samples, *names):
    """The median of one figure of samples."""
    values = []
    for sample in samples:
        for name in names:
            sample = sample[name]
        values.append(sample)
    return statistics.median(values)


def measure_posts(options, daemon):
    """Leases beside commits, taking turns; the first leases of the thousand."""
    posts, rows, one = [], [], []
    port = 10000
    for _ in range(options.rounds):
        share = POSTS // options.rounds
        posts.append(load(options, "post", daemon.port, daemon.token, body(), share, CLIENTS, port))
        daemon.await_running(port + share - 10000)
        port += share
        one.append(load(options, "post", daemon.port, daemon.token, body(), share // 4, 1, port))
        port += share // 4
        daemon.await_running(port - 10000)
        if not rows:
            template(daemon, daemon.folder / "rows.db")
        rows.append(load(options, "rows", daemon.folder / "rows.db", share))
    return {"posts": posts, "one": one, "rows": rows, "made": port - 10000}


def measure_gets(options, daemon, leases):
    """Reads of one lease beside a bare server that says as much."""
    targets = daemon.folder / "targets"
    targets.write_text("".join(f"/v1/leases/{lease}\n" for lease in leases), encoding="ascii")
    size = len(json.dumps(daemon.get(f"/v1/leases/{leases[0]}"), separators=(",", ":")))
    port = free_port()
    bare = subprocess.Popen([options.build / "api_bench", "echo", str(port), str(size)], stdout=subprocess.PIPE)
    bare.stdout.readline()
    samples = {"omertad": [], "bare": []}
    try:
        for _ in range(options.rounds):
            for name, pid, *where in (("bare", bare.pid, port, ""),
                                      ("omertad", daemon.process.pid, daemon.port, daemon.token)):
                before = processor_s(pid)
                sample = load(options, "get", *where, targets, RATE, SECONDS)
                sample["processor_us"] = (processor_s(pid) - before) * 1e6 / sample["requests"]
                samples[name].append(sample)
    finally:
        bare.kill()
        bare.wait()
        bare.stdout.close()
    return samples


def lease_ids(daemon):
    """Ids of all leases."""
    found, cursor = [], ""
    while cursor is not None:
        page = daemon.get(f"/v1/leases?limit=200{cursor and '&after=' + cursor}")
        found += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
    return found


def measure(options):
    """All of it, on one daemon. Return: dict"""
    result = {}
    with Daemon(options.build) as daemon:
        before = daemon.resident_kib()
        result["posts"] = measure_posts(options, daemon)
        made = result["posts"]["made"]
        load(options, "post", daemon.port, daemon.token, body(), LEASES - TOLD - made, CLIENTS, 10000 + made)
        daemon.await_running(LEASES - TOLD)
        result["streams"] = load(options, "streams", daemon.port, daemon.token, body(), READERS, TOLD, 30000)
        daemon.await_running(LEASES)
        result["resident_kib_per_lease"] = (daemon.resident_kib() - before) / LEASES
        time.sleep(2)
        calm = daemon.switches()
        time.sleep(5)
        result["wakeups_per_s"] = (daemon.switches() - calm) / 5
        result["gets"] = measure_gets(options, daemon, lease_ids(daemon))
    return result


def table(result):
    """The lines to print."""
    gets, posts = result["gets"], result["posts"]
    rate, bare = median(posts["posts"], "per_s"), median(posts["rows"], "per_s")
    lines = [f"GET of one lease, {LEASES} stored, {RATE}/s aimed at      p50 us   p99 us   processor us"]
    lines += [f"  {name:52}{median(gets[name], 'latency', 'p50_us'):9.0f}{median(gets[name], 'latency', 'p99_us'):9.0f}"
              f"{median(gets[name], 'processor_us'):15.0f}"
              for name in ("bare", "omertad")]
    lines += [f"durable POST, external, {CLIENTS} clients                   {rate:9.0f}/s   p99 "
              f"{median(posts['posts'], 'latency', 'p99_us') / 1000:.1f} ms",
              f"durable POST, external, one client                  {median(posts['one'], 'per_s'):9.0f}/s",
              f"bare commits of the same rows                       {bare:9.0f}/s   ratio of the POSTs {rate / bare:.2f}",
              f"event told to {READERS} readers after the POST's answer: p50 "
              f"{result['streams']['delivery']['p50_us'] / 1000:.1f} ms, p99 "
              f"{result['streams']['delivery']['p99_us'] / 1000:.1f} ms",
              f"{LEASES} external leases: {result['resident_kib_per_lease']:.0f} KiB resident each, "
              f"{result['wakeups_per_s']:.1f} wake-ups a second in all when idle"]
    return lines
