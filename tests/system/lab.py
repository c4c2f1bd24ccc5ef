"""The lab: a provider with an uplink, a world around it, and an oracle on the wire.

    namespace prov                               namespace world
    omertad, QEMU, a service on every address    the consumer's WireGuard, "internet", "LAN"
    up0  198.51.100.1  <-------- veth -------->  world0  198.51.100.2  198.51.100.3 (a stranger)
         192.168.77.1                                    192.168.77.50  8.8.8.8  203.0.113.80

Nothing of it touches the machine's own network, and nothing outlives the process (see netns.py).
"""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys

import capture
import guest
import netns
from daemon import ROOT, Daemon, User, process_arguments, wait_for
from world import Consumer, Listeners, ping

PROVIDER, LAN_PROVIDER = "198.51.100.1", "192.168.77.1"
CONSUMER, STRANGER = "198.51.100.2", "198.51.100.3"
LAN_HOST = "192.168.77.50"
INTERNET, WEB = "8.8.8.8", "203.0.113.80"
WORLD = (CONSUMER, STRANGER, LAN_HOST, INTERNET, WEB)
SERVICE_PORT = 8080
CONSUMER_PORT = 51999  # "another port of the consumer"
API_PORT = 7700
LIMIT_TUNNEL = 60.0


def program():
    """The daemon to test: $OMERTAD, or the one that make builds."""
    return pathlib.Path(os.environ.get("OMERTAD") or ROOT / "build/host/omertad")


def image_folder():
    """The guest image to boot: $OMERTAD_IMAGE, or the one that make builds."""
    return pathlib.Path(os.environ.get("OMERTAD_IMAGE") or ROOT / "build/guest/micro")


class Lease:
    """One lease and the VM behind it, as orchestrator and consumer see it."""

    def __init__(self, lab, daemon, consumer, number, document):
        self._lab, self.daemon, self.consumer = lab, daemon, consumer
        self.vm_ip = consumer.vm_ip(number)
        self.id, self.vm_key = document["id"], document["vm"]["public_key"]
        self.path = f"/v1/leases/{self.id}"
        consumer.admit(self.vm_key, self.vm_ip)

    def read(self):
        """The lease as the API shows it now."""
        return self.daemon.client().get(self.path)

    def console(self):
        """What the VM's console printed."""
        answer = self.daemon.client().request("GET", f"{self.path}/console")
        return answer.body.decode("utf-8", "replace") if answer.status == 200 else ""

    def events(self):
        """The lease's events, oldest first."""
        return [event for event in self.daemon.client().items("/v1/events") if event.get("lease_id") == self.id]

    def violations(self):
        """What the provider wrote down about this VM."""
        return self.daemon.client().items(f"{self.path}/violations")

    def counters(self):
        """The NAT's counters: frames from the guest by reason, packets from the consumer by outcome."""
        stats = self.daemon.client().get(f"{self.path}/stats")
        return {**{item["reason"]: item["frames"] for item in stats["from_guest"]},
                **{item["outcome"]: item["packets"] for item in stats["from_consumer"]}}

    def machine(self):
        """Pid of the lease's hypervisor, None when there is none."""
        return next((pid for pid in self.daemon.machines() if self.id in process_arguments(pid)), None)

    def _reached(self, wanted):
        lease = self.read()
        if lease["state"] == "terminated" and wanted != "terminated":
            raise RuntimeError(f"the lease ended: {lease['termination']}\n{self.console()[-1500:]}")
        return lease if lease["state"] == wanted else None

    def wait_state(self, wanted, limit=20.0):
        """Wait until the lease is in a state. Return: the lease"""
        return wait_for(lambda: self._reached(wanted), limit, f"lease is {wanted}")

    def wait_tunnel(self, limit=LIMIT_TUNNEL):
        """Wait until the provider saw the tunnel come up. Return: the lease"""
        def established():
            self._reached("running")
            lease = self.read()
            return lease if lease["tunnel"]["state"] == "established" else None
        return wait_for(established, limit, "tunnel established")

    def wait_handshake(self):
        """Wait until the consumer has the tunnel: in direct mode the provider sees nothing of it."""
        def made():
            self._reached("running")
            return self.consumer.handshake_at(self.vm_key)
        wait_for(made, LIMIT_TUNNEL, "handshake", 0.1)

    def shell(self, limit=20.0):
        """A root shell in the VM, through the tunnel."""
        return guest.Shell(self._lab.world, self.vm_ip, self._lab.ssh_key, self._lab.ssh_log, limit)

    def release(self):
        """Ask for the lease's end. Return: the HTTP status"""
        return self.daemon.client().request("DELETE", self.path).status

    def wait_end(self, limit=20.0):
        """Wait for the lease's end. Return: its termination"""
        termination = self.wait_state("terminated", limit)["termination"]
        self.consumer.dismiss(self.vm_key)
        return termination


class Lab:
    """The lab, as a context manager. One per process."""

    def __init__(self):
        self._closers = []
        self._names = set()
        self._consumers = {}
        self.folder = pathlib.Path("/run/lab")

    def __enter__(self):
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        signal.signal(signal.SIGHUP, lambda number, frame: sys.exit(128 + number))
        self._require()
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        while self._closers:
            try:
                self._closers.pop()()
            except Exception as error:  # the rest still has to be ended
                print(f"lab: {error}", file=sys.stderr)

    @staticmethod
    def _require():
        """Say at once what is missing, and how to get it."""
        for tool, package in (("ip", "iproute2"), ("wg", "wireguard-tools"), ("wireguard-go", "wireguard-go"),
                              ("ssh", "openssh-client"), ("ssh-keygen", "openssh-client"), ("nsenter", "util-linux"),
                              ("setpriv", "util-linux"), ("curl", "curl"), ("qemu-system-x86_64", "qemu-system-x86")):
            if not shutil.which(tool):
                raise netns.NotPossible(f"{tool} is missing: apt install {package}, or make deps")
        for path, target in ((program(), "make"), (image_folder() / "manifest.json", "make image")):
            if not path.exists():
                raise netns.NotPossible(f"{path.name} is missing: run {target}")

    def _make(self):
        self.user = User(netns.isolate())
        self.folder.mkdir(mode=0o711)
        self.prov = self._closed(netns.Namespace("prov"))
        self.world = self._closed(netns.Namespace("world"))
        self._link()
        self.rules = capture.Rules(PROVIDER, {PROVIDER, LAN_PROVIDER, *WORLD})
        self.services = self._closed(Listeners(self.prov, [SERVICE_PORT], [SERVICE_PORT]))
        self.listeners = self._closed(Listeners(self.world, [53, CONSUMER_PORT], [53, 80]))
        self.oracle = capture.Oracle(self.prov, ["up0", "lo"], self.rules).start()
        self._closers.append(self.oracle.stop)
        self.ssh_key = self.folder / "ssh_key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(self.ssh_key)], check=True)
        self.ssh_log = open(self.folder / "ssh.log", "wb")
        self.self_test()

    def _closed(self, thing):
        self._closers.append(thing.close)
        return thing

    def _link(self):
        prov, world = self.prov, self.world
        prov.run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "world0", "netns", world.path)
        for namespace, name, addresses in (
                (prov, "up0", [f"{PROVIDER}/24", f"{LAN_PROVIDER}/24"]),
                (world, "world0", [f"{CONSUMER}/24", f"{STRANGER}/24", f"{LAN_HOST}/24", f"{INTERNET}/32",
                                   f"{WEB}/32"])):
            # No IPv6 addresses, so that not one frame is the kernel's own but ARP.
            namespace.run("ip", "link", "set", name, "addrgenmode", "none")
            for address in addresses:
                namespace.run("ip", "address", "add", address, "dev", name)
            namespace.run("ip", "link", "set", name, "up")
        prov.run("ip", "route", "add", "default", "via", CONSUMER)

    def self_test(self):
        """Prove that every target is alive and that the oracle sees what reaches it, by leaking on purpose."""
        for address in (INTERNET, WEB, LAN_HOST, CONSUMER):
            self._expect_answer(socket.SOCK_DGRAM, address, 53)
            self._expect_answer(socket.SOCK_STREAM, address, 53)
            if not ping(self.prov, address):
                raise RuntimeError(f"lab: {address} does not answer a ping")
        for address in ("127.0.0.1", PROVIDER, LAN_PROVIDER):
            self._expect_answer(socket.SOCK_DGRAM, address, SERVICE_PORT)
            self._expect_answer(socket.SOCK_STREAM, address, SERVICE_PORT)
        self._expect_answer(socket.SOCK_DGRAM, CONSUMER, CONSUMER_PORT)
        leaks = self.oracle.leaks()
        far, near = (INTERNET, WEB, LAN_HOST, CONSUMER), ("127.0.0.1", PROVIDER, LAN_PROVIDER)
        wanted = [(kind, ip, 53) for ip in far for kind in (capture.UDP, capture.TCP)] + \
            [(capture.ICMP, ip, 0) for ip in far] + \
            [(kind, ip, SERVICE_PORT) for ip in near for kind in (capture.UDP, capture.TCP)] + \
            [(capture.UDP, CONSUMER, CONSUMER_PORT)]
        for protocol, address, port in wanted:
            if not any(leak.protocol == protocol and leak.destination == (address, port) for leak in leaks):
                raise RuntimeError(f"lab: the oracle is blind to protocol {protocol} to {address}:{port}")
        self.forget()

    def forget(self):
        """Drop what was seen so far: a test leaked on purpose."""
        self.oracle.forget()
        for listeners in (self.listeners, self.services):
            listeners.arrivals.clear()

    def _expect_answer(self, kind, address, port):
        with self.prov.socket(socket.AF_INET, kind) as handle:
            handle.settimeout(5)
            handle.connect((address, port))
            handle.send(b"self-test")
            if not handle.recv(100):
                raise RuntimeError(f"lab: {address}:{port} does not answer")

    # ---- parts

    def append_to_etc(self, lines, add_cleanup):
        """Files of /etc with a line more, in this process' own mounts. @lines: {name: line}; @add_cleanup: a test's"""
        for name, line in lines.items():
            copy = self.folder / f"etc-{name}"
            copy.write_text(pathlib.Path("/etc", name).read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
            subprocess.run(["mount", "--bind", str(copy), f"/etc/{name}"], check=True)
            add_cleanup(subprocess.run, ["umount", f"/etc/{name}"], check=True)

    def daemon(self, name, settings=None, image=True):
        """An installation of the daemon, not started; ended with the lab."""
        if name in self._names:
            raise ValueError(f"daemon {name} exists")
        port = API_PORT + len(self._names)
        self._names.add(name)
        self.rules.api_ports.add(port)
        daemon = Daemon(self.prov, self.user, self.folder / name, program(), image_folder() if image else None, port,
                        settings)
        self._closers.append(daemon.stop)
        return daemon

    def consumer(self, number=0):
        """Consumer @number, brought up at its first use."""
        if number not in self._consumers:
            consumer = Consumer(self.world, CONSUMER, number, self.folder).start()
            self._consumers[number] = consumer
            self._closers.append(consumer.stop)
            self.rules.consumers.add((consumer.ip, consumer.port))
        return self._consumers[number]

    def request(self, consumer, number=0, **changes):
        """The body of a lease request; a change of None leaves the member out."""
        body = {
            "image": "micro",
            "resources": {"vcpus": 1, "memory_mib": 128, "disk_mib": 0},
            "network": {"mode": "filtered"},
            "consumer": {"public_key": consumer.public_key, "endpoint": consumer.endpoint,
                         "tunnel_ip": consumer.tunnel_ip},
            "vm": {"tunnel_ip": consumer.vm_ip(number)},
            "ssh": {"user": "root",
                    "authorized_keys": [self.ssh_key.with_suffix(".pub").read_text(encoding="ascii").strip()]},
        }
        body.update(changes)
        return {key: value for key, value in body.items() if value is not None}

    def lease(self, daemon, consumer_number=0, **changes):
        """Lease a VM; returns as soon as the API has answered. Return: Lease"""
        consumer = self.consumer(consumer_number)
        answer = daemon.client().request("POST", "/v1/leases", self.request(consumer, **changes))
        return self.adopt(daemon, consumer, answer)

    def adopt(self, daemon, consumer, answer):
        """The lease that an answer to POST speaks of; its consumer lets the VM in. Return: Lease"""
        if answer.status != 202:
            raise AssertionError(f"POST /v1/leases: {answer.status} {answer.body.decode()}")
        return self.adopt_document(daemon, consumer, answer.json)

    def adopt_document(self, daemon, consumer, document):
        """The lease that a document describes; its consumer lets the VM in. Return: Lease"""
        return Lease(self, daemon, consumer, 0, document)

    def attacks(self, consumer):
        """Everything that a hostile tenant of this consumer tries."""
        return guest.attacks(PROVIDER, LAN_PROVIDER, LAN_HOST, (consumer.ip, consumer.port), (INTERNET, WEB))

    def arrived(self):
        """What reached a service outside of any tunnel, or a service of the provider."""
        return self.listeners.outside_tunnel() + self.services.arrivals


def run(main):
    """Run a program of the lab: exit code 0 or 1, 3 and a sentence when the machine does not allow it."""
    try:
        return main()
    except netns.NotPossible as error:
        print(f"{pathlib.Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
