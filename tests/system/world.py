"""What lies around the provider: listeners that write down whatever arrives, and consumers with a WireGuard tunnel."""

import selectors
import socket
import struct
import subprocess
import threading
import time
from typing import NamedTuple

import frames
from guest import TFTP_ERROR

IP_PKTINFO = 8  # Linux; the socket module of Python 3.11 does not name it
TFTP_READ, TFTP_ANSWER = b"\0\1", b"\0\5\0\0" + TFTP_ERROR.encode() + b"\0"


class Arrival(NamedTuple):
    """Something that reached a listener."""

    kind: str
    destination: tuple
    source: tuple
    data: bytes


class Listeners:
    """UDP and TCP sockets of one namespace that record what arrives; UDP is answered with the bytes that came, and a
    TFTP request with an error.

    Bound to any address, so that they stand for every host the namespace plays.
    """

    def __init__(self, namespace, udp_ports, tcp_ports):
        self.arrivals = []
        self._stop = threading.Event()
        self._selector = selectors.DefaultSelector()
        for port in udp_ports:
            handle = namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
            handle.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            handle.bind(("0.0.0.0", port))
            self._selector.register(handle, selectors.EVENT_READ, self._take_datagram)
        for port in tcp_ports:
            handle = namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            handle.bind(("0.0.0.0", port))
            handle.listen(64)
            self._selector.register(handle, selectors.EVENT_READ, self._take_connection)
        self._thread = threading.Thread(target=self._listen, name="listeners", daemon=True)
        self._thread.start()

    def _listen(self):
        while not self._stop.is_set():
            for key, _ in self._selector.select(0.1):
                key.data(key.fileobj)

    def _take_datagram(self, handle):
        data, ancillary, _, source = handle.recvmsg(65535, socket.CMSG_SPACE(12))
        # struct in_pktinfo: interface, local address, destination in the header
        _, local, destination = struct.unpack("I4s4s", ancillary[0][2])
        port = handle.getsockname()[1]
        self.arrivals.append(Arrival("udp", (socket.inet_ntoa(destination), port), source, data))
        answer_from = (socket.IPPROTO_IP, IP_PKTINFO, struct.pack("I4s4s", 0, local, bytes(4)))
        answer = TFTP_ANSWER if data.startswith(TFTP_READ) else data
        handle.sendmsg([answer], [answer_from], 0, source)

    def _take_connection(self, handle):
        connection, source = handle.accept()
        self.arrivals.append(Arrival("tcp", connection.getsockname(), source, b""))
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nhi\n")
        connection.close()

    def outside_tunnel(self):
        """Arrivals that did not come through a consumer's tunnel."""
        return [arrival for arrival in self.arrivals if not arrival.source[0].startswith("10.")]

    def through_tunnel(self, vm_ip):
        """Arrivals from the tunnel address of one VM."""
        return [arrival for arrival in self.arrivals if arrival.source[0] == vm_ip]

    def close(self):
        """Stop listening. What arrived stays readable."""
        self._stop.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()


def ping(namespace, ip, count=1, limit=5.0):
    """Whether @ip answers @count ICMP echo requests; each is sent again every 0.5 s, as one may be lost."""
    with namespace.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as handle:
        handle.settimeout(0.5)
        until, answered = time.monotonic() + limit, 0
        while answered < count and time.monotonic() < until:
            message = frames.icmp_echo(answered)
            handle.sendto(message, (ip, 0))
            try:
                while not (data := handle.recv(2048))[20:].startswith(b"\0") or data[24:28] != message[4:8]:
                    pass
                answered += 1
            except TimeoutError:
                pass
        return answered == count


def wireguard_key():
    """A fresh key pair. Return: (private, public), base64"""
    private = subprocess.run(["wg", "genkey"], check=True, capture_output=True, text=True).stdout.strip()
    public = subprocess.run(["wg", "pubkey"], input=private, check=True, capture_output=True, text=True).stdout.strip()
    return private, public


class Consumer:
    """One customer: a WireGuard device of its own in the world, to which VMs may tunnel.

    The device's number makes its port and its tunnel network: 0 is port 51900 and 10.77.0.0/24, 1 is 51910 and
    10.78.0.0/24. wireguard-go is used because it needs no kernel module.
    """

    def __init__(self, namespace, address, number, folder):
        self._namespace = namespace
        self.name = f"wgc{number}"
        self.ip, self.port = address, 51900 + 10 * number
        self.endpoint = f"{self.ip}:{self.port}"
        self.tunnel_ip = f"10.{77 + number}.0.1"
        self.private_key, self.public_key = wireguard_key()
        self._key_file = folder / f"{self.name}.key"
        self._key_file.write_text(self.private_key, encoding="ascii")
        self._log = open(folder / f"{self.name}.log", "wb")
        self._process = None

    def vm_ip(self, number=0):
        """The tunnel address of this consumer's VM @number."""
        return self.tunnel_ip.rpartition(".")[0] + f".{2 + number}"

    def start(self):
        """Bring the device up. Return: self"""
        self._process = self._namespace.start("wireguard-go", "-f", self.name, stdout=self._log, stderr=self._log)
        self._wait_for_device()
        self._wg("set", self.name, "private-key", str(self._key_file), "listen-port", str(self.port))
        self._namespace.run("ip", "address", "add", f"{self.tunnel_ip}/24", "dev", self.name)
        self._namespace.run("ip", "link", "set", self.name, "up")
        return self

    def _wait_for_device(self):
        for _ in range(200):
            if self._namespace.run("wg", "show", self.name, check=False).returncode == 0:
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.02)
        raise RuntimeError("wireguard-go did not come up")

    def _wg(self, *words):
        return self._namespace.run("wg", *words).stdout

    def move(self, address, port, provider):
        """Live at another address and port from now on: that is whence what goes to @provider comes."""
        self._namespace.run("ip", "route", "replace", f"{provider}/32", "dev", "world0", "src", address)
        self._wg("set", self.name, "listen-port", str(port))

    def move_home(self, provider):
        """Undo move()."""
        self._namespace.run("ip", "route", "del", f"{provider}/32", "dev", "world0")
        self._wg("set", self.name, "listen-port", str(self.port))

    def admit(self, vm_public_key, vm_ip):
        """Let a VM in."""
        self._wg("set", self.name, "peer", vm_public_key, "allowed-ips", f"{vm_ip}/32")

    def share(self, vm_public_key, preshared_key):
        """Use a preshared key with this VM."""
        file = self._key_file.with_suffix(".psk")
        file.write_text(preshared_key, encoding="ascii")
        self._wg("set", self.name, "peer", vm_public_key, "preshared-key", str(file))

    def dismiss(self, vm_public_key):
        """Know the VM no longer."""
        self._wg("set", self.name, "peer", vm_public_key, "remove")

    def handshake_at(self, vm_public_key):
        """Time of the last handshake in whole seconds, 0 for none."""
        for line in self._wg("show", self.name, "latest-handshakes").splitlines():
            key, seconds = line.split()
            if key == vm_public_key:
                return int(seconds)
        return 0

    def received_bytes(self, vm_public_key):
        """Bytes that came from a VM through its tunnel, handshakes included."""
        lines = self._wg("show", self.name, "transfer").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(vm_public_key))

    def pings(self, vm_ip, count=1, limit=5.0):
        """Whether the VM answers @count pings through the tunnel."""
        return ping(self._namespace, vm_ip, count, limit)

    def stop(self):
        """End the device."""
        if self._process:
            self._process.terminate()
            self._process.wait(10)
            self._process = None
        self._log.close()
