"""Direct mode: what reaches the consumer through it, beside what reaches it through pasta alone.

The same datagrams are written to the machine's tap, in the place of a hypervisor, and to a socket behind pasta. Provider and
consumer are two networks of this measurement's own; the user is an ordinary one. Needs root, for a /dev/net/tun of its own. Nothing
is tied to a core. The consumer looks every 2 ms at what came: one that wakes for each datagram takes a third of two cores, and
where the scheduler puts it decides what is measured.
"""

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile

TITLE = "direct mode: what arrives of datagrams of 1,440 bytes sent as fast as possible, in Gbit/s"

SUBJECTS = ("pasta", "direct")
BYTES, PACKETS = 1440, 150000
LIMIT_S = 40
NOBODY = 61234

CONSUMER = "ip link set lo up; ip addr add 198.51.100.2/32 dev lo; echo ready; read go; exec \"$1\" sink"
PROVIDER = f"""
consumer=$1; program=$2; subject=$3
mount --make-rprivate / && mount -t tmpfs tmpfs /run && mknod -m 666 /run/tun c 10 200 && mount --bind /run/tun /dev/net/tun
ip link set lo up && ip link add w0 type veth peer name w1 && ip link set w1 netns "$consumer"
ip addr add 192.0.2.1/24 dev w0 && ip link set w0 up
nsenter -t "$consumer" -n sh -ec 'ip addr add 192.0.2.2/24 dev w1; ip link set w1 up; ip route add default via 192.0.2.1'
ip route add default via 192.0.2.2
exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all -- \
    "$program" "$subject" {BYTES} {PACKETS}
"""


def take(program, subject):
    """One sample: Gbit/s that arrived, and the share of the packets. Raise: RuntimeError with what was said"""
    with subprocess.Popen(["unshare", "-n", "sh", "-ec", CONSUMER, "consumer", program], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as consumer:
        try:
            consumer.stdout.readline()
            consumer.stdin.write("go\n")
            consumer.stdin.flush()
            done = subprocess.run(["unshare", "-mn", "sh", "-ec", PROVIDER, "provider", str(consumer.pid), program, subject],
                                  capture_output=True, text=True, timeout=LIMIT_S, check=False)
            if done.returncode != 0:
                raise RuntimeError(done.stderr.strip() or f"exit code {done.returncode}")
            told = json.loads(consumer.communicate(timeout=LIMIT_S)[0])
        finally:
            consumer.kill()
    return {"gbps": told["gbps"], "arrived": told["received"] / PACKETS}


def missing():
    """Why this cannot be measured here; empty: it can."""
    if os.geteuid() != 0:
        return "a /dev/net/tun of its own needs root"
    lacks = [tool for tool in ("pasta", "nft", "ip") if not shutil.which(tool)]
    return f"not installed: {', '.join(lacks)}" if lacks else ""


def measure(options):
    """Medians of options.rounds samples of each, who is first in turn."""
    if missing():
        return {"without": missing()}
    samples = {subject: [] for subject in SUBJECTS}
    with tempfile.TemporaryDirectory(prefix="omertad-bench-") as name:
        pathlib.Path(name).chmod(0o755)  # the ordinary user may not reach the build folder
        program = shutil.copy(options.build / "direct_bench", name)
        for number in range(options.rounds):
            for subject in SUBJECTS[::1 if number % 2 == 0 else -1]:
                samples[subject].append(take(program, subject))
    return {subject: {name: statistics.median(sample[name] for sample in taken) for name in taken[0]}
            for subject, taken in samples.items()}


def table(result):
    """Lines to print."""
    if "without" in result:
        return [f"not measured: {result['without']}"]
    pasta, direct = (result[subject] for subject in SUBJECTS)
    return [f"pasta alone {pasta['gbps']:.2f} ({100 * pasta['arrived']:.0f} % of what was sent), direct mode {direct['gbps']:.2f} "
            f"({100 * direct['arrived']:.0f} %): {direct['gbps'] / pasta['gbps']:.2f} of it"]
