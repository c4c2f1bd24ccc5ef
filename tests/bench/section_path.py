"""The data path: the NAT beside a naive loop and a bare relay on both transports, and beside passt where it is installed.

Every sample is a process of its own (path_bench) in a network of its own; the samples of one round take turns, so that
whatever else the machine does meets all of them.
"""

import json
import mmap
import pathlib
import shutil
import signal
import statistics
import subprocess
import tempfile
import time

TITLE = "data path: processor time of the NAT's thread for a packet, in nanoseconds"

MODES = ("filtered", "conntrack", "sampled")
SUBJECTS = ("naive", "relay", *MODES)
FRAMINGS = ("dgram", "stream")
LOADS = (("up", 1400), ("up", 64), ("down", 1400), ("down", 64))
# As many of each as take a tenth of a second or so: a start costs too much of less, by chance.
PACKETS = {"dgram": (30000, 50000, 30000, 30000), "stream": (100000, 500000, 30000, 30000)}
WARM_BYTES = 1 << 30
SLOW_PACKETS = 10000  # of the naive loop and passt, which take as long with them
FLOOD = {"dgram": 400000, "stream": 50000}  # with datagrams the kernel drops nearly all of it
BURSTS_TAKEN = 3  # a round, of large datagrams: a third of all processes need half as long again for them, whoever carries them
TRIPS_TAKEN = 3  # a round: they are short, and where a process's memory lies makes a tenth of difference
LIMIT_S = 30

PASST_NETWORK = """
ip link set lo up && ip addr add 198.51.100.1/24 dev lo
ip link add p0 type veth peer name p1 && ip link set p0 up && ip link set p1 up
ip addr add 192.0.2.1/24 dev p0 && ip route add default via 192.0.2.2
exec passt -f -q -4 -s "$1" -i p0 -a 192.168.64.2 -n 24 -g 192.168.64.1 --no-map-gw --no-dhcp --no-ra --no-ndp -t none -u none
"""


class Passt:
    """passt in a network of its own, a fresh one for each sample, or nothing where it cannot run."""

    def __init__(self):
        self.process, self.why = None, ""

    def start(self):
        """Return: whether it runs."""
        if not shutil.which("passt"):
            self.why = "passt is not installed"
            return False
        self._folder = tempfile.TemporaryDirectory(prefix="omertad-bench-")
        pathlib.Path(self._folder.name).chmod(0o777)  # as root it becomes somebody else before it makes its socket
        self.socket = pathlib.Path(self._folder.name) / "passt"
        self.process = subprocess.Popen(["unshare", "-n", "sh", "-ec", PASST_NETWORK, "passt", self.socket],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        limit = time.monotonic() + 5
        while not self.socket.exists() and self.process.poll() is None and time.monotonic() < limit:
            time.sleep(0.02)
        if not self.socket.exists():
            self.why = "passt did not start (it needs root or a user namespace here)"
            self.close()
        return self.process is not None

    def close(self):
        """End it."""
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait()
            self._folder.cleanup()
            self.process = None


class Runner:
    """Runs path_bench and keeps what it says, by name."""

    def __init__(self, binary, passt):
        self._binary, self._passt = binary, passt
        self.samples, self.failed = {}, {}

    def take(self, case, subject, framing, size, packets):
        """One sample. One that fails is counted and told, not hidden."""
        key = f"{case} {subject} {framing} {size}"
        command = [self._binary, case, subject, framing, str(size), str(packets)]
        if subject == "passt":
            if not self._passt.start():
                return
            process = self._passt.process
            command = ["nsenter", "-t", str(process.pid), "-n", *command, self._passt.socket, str(process.pid)]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=LIMIT_S)
            sample = json.loads(done.stdout)
            self.samples.setdefault(key, []).append(sample)
        except subprocess.TimeoutExpired:
            self.failed[key] = f"no end after {LIMIT_S} s"
        except json.JSONDecodeError:
            self.failed[key] = done.stderr.strip() or f"exit code {done.returncode}"
        finally:
            self._passt.close()

    def medians(self):
        """{name: {figure: median}}, with the number of samples."""
        return {key: {**{name: statistics.median(sample[name] for sample in samples) for name in samples[0]},
                      "samples": len(samples)} for key, samples in self.samples.items()}


def warm_memory():
    """Touch memory and give it back. What a burst of large frames fills is new to the kernel's buffers, and where this machine is
    itself a virtual one its host may have to find each page first: a packet takes five times as long then, whoever carries it."""
    with mmap.mmap(-1, WARM_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        for at in range(0, WARM_BYTES, mmap.PAGESIZE):
            memory[at] = 1


def one_round(runner, number):
    """Everything once that is measured in each round. Who is first changes: what comes late in a round meets another machine."""
    warm_memory()
    first = number % len(SUBJECTS)
    subjects = SUBJECTS[first:] + SUBJECTS[:first]
    for i, (case, size) in enumerate(LOADS):
        for framing in FRAMINGS:
            for subject in subjects * (BURSTS_TAKEN if (framing, size) == ("dgram", 1400) else 1):
                runner.take(case, subject, framing, size, SLOW_PACKETS if subject == "naive" else PACKETS[framing][i])
        runner.take(case, "passt", "stream", size, SLOW_PACKETS)
    for framing in FRAMINGS:
        for subject in ("naive", "relay", "filtered") * TRIPS_TAKEN:
            runner.take("rtt", subject, framing, 148, 1000)
        runner.take("flood", "relay", framing, 64, 30000)
        runner.take("flood", "filtered", framing, 64, FLOOD[framing])
        runner.take("mix", "filtered", framing, 1400, 30000)


def measure(options):
    """Medians of options.rounds interleaved rounds, and what is measured once."""
    passt = Passt()
    runner = Runner(options.build / "path_bench", passt)
    for number in range(options.rounds):
        one_round(runner, number)
    for framing in FRAMINGS:
        runner.take("idle", "filtered", framing, 64, 1)
        runner.take("memory", "filtered", framing, 1400, 6000)
    runner.take("crowd", "filtered", "dgram", 64, 1)
    for framing in FRAMINGS:
        runner.take("fair", "filtered", framing, 1400, 1)
    return {"medians": runner.medians(), "failed": runner.failed, "without": [passt.why] if passt.why else []}


def figure(result, key, name):
    """A median, or None where it could not be measured."""
    return result["medians"].get(key, {}).get(name)


def text(value, form="{:.0f}"):
    """A cell."""
    return "-" if value is None else form.format(value)


def ratio(value, base):
    """A cell: how many times the base."""
    return text(value / base if value and base else None, "{:.2f}")


def cost_table(result):
    """Nanoseconds a packet, and the ratios to both baselines."""
    lines = ["framing subject     up 1400    up 64  down 1400  down 64   Gbps up    Mpps up    ratio to relay (naive)"]
    for framing in FRAMINGS:
        for subject in (*SUBJECTS, *(("passt",) if framing == "stream" else ())):
            costs, ratios = [], []
            for case, size in LOADS:
                cost, relay, naive = (figure(result, f"{case} {who} {framing} {size}", "cpu_ns_per_packet")
                                      for who in (subject, "relay", "naive"))
                costs.append(cost)
                ratios.append(f"{ratio(cost, relay)} ({ratio(cost, naive)})")
            up = f"up {subject} {framing}"
            lines.append(f"{framing:7} {subject:9}" + "".join(f"{text(cost):>10}" for cost in costs) +
                         f"{text(figure(result, f'{up} 1400', 'gbps'), '{:.1f}'):>10}" +
                         f"{text(figure(result, f'{up} 64', 'mpps'), '{:.2f}'):>11}    " + "  ".join(ratios))
    return lines


def other_lines(result):
    """Round trips, floods, and what a NAT costs that does little."""
    lines = [""]
    for framing in FRAMINGS:
        trips = "; ".join(f"{who} {text(figure(result, f'rtt {who} {framing} 148', 'p50_us'), '{:.1f}')} / "
                          f"{text(figure(result, f'rtt {who} {framing} 148', 'p99_us'), '{:.1f}')}"
                          for who in ("naive", "relay", "filtered"))
        ratios = [ratio(*(figure(result, f"rtt {who} {framing} 148", name) for who in ("filtered", "naive")))
                  for name in ("p50_us", "p99_us")]
        lines.append(f"{framing:7} round trip on one core, p50 / p99 us: {trips}; of naive: {' / '.join(ratios)}")
    for framing in FRAMINGS:
        flood, relay = (figure(result, f"flood {who} {framing} 64", "cpu_ns_per_packet") for who in ("filtered", "relay"))
        mix = f"mix filtered {framing} 1400"
        lines.append(f"{framing:7} flood of forbidden frames: {text(flood, '{:.1f}')} ns each, relay {text(relay)}; nine to one "
                     f"mixed: {text(figure(result, mix, 'received'))} of {text(figure(result, mix, 'sent'))} allowed arrive")
        lines.append(f"{framing:7} private memory of one NAT {text(figure(result, f'memory filtered {framing} 1400', 'private_kib'))}"
                     f" KiB; idle: {text(figure(result, f'idle filtered {framing} 64', 'wakeups'))} wake-ups in "
                     f"{text(figure(result, f'idle filtered {framing} 64', 'seconds'))} s; four at full rate: the slowest has "
                     f"{text(figure(result, f'fair filtered {framing} 1400', 'least_of_most'), '{:.2f}')} of the fastest")
    crowd = "crowd filtered dgram 64"
    lines.append(f"{text(figure(result, crowd, 'nats'))} idle NATs: {text(figure(result, crowd, 'wakeups'))} wake-ups, "
                 f"{text(figure(result, crowd, 'cpu_us_per_s'))} us of processor time a second")
    return lines


def table(result):
    """Lines to print."""
    lost = {key: values["lost"] for key, values in result["medians"].items() if values.get("lost")}
    return cost_table(result) + other_lines(result) + \
        [f"lost (median): {key}: {count:.0f}" for key, count in lost.items()] + \
        [f"not measured: {key}: {why}" for key, why in result["failed"].items()] + \
        [f"left out: {why}" for why in result["without"]]
