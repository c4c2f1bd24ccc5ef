"""A leased VM as its tenant sees it: a root shell over the tunnel, and everything a hostile tenant tries with it."""

import os
import select
import shlex
import subprocess
import time
from typing import NamedTuple

GATEWAY = "192.168.64.1"
TFTP_ERROR = "reached-a-listener"


class Shell:
    """A root shell in the VM: one SSH session through the tunnel, kept open, because under emulation each costs 1 s."""

    def __init__(self, namespace, address, key_file, log, limit=20.0):
        self._mark = f"done-{os.urandom(8).hex()}"
        self._namespace = namespace
        self._argv = (
            "ssh", "-T", "-F", "none", "-i", key_file, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
            "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
            "-o", "ConnectTimeout=3", f"root@{address}", "/bin/sh")
        self._log = log
        self._connect(limit)

    def _connect(self, limit):
        """SSH answers some tenths of a second after the tunnel: try until it does."""
        until = time.monotonic() + limit
        while True:
            self._process = self._namespace.start(*self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                                  stderr=self._log)
            try:
                self.run("true", limit)
                return
            except (ConnectionError, TimeoutError):
                self.close()
                if time.monotonic() > until:
                    raise
            time.sleep(0.1)

    def run(self, script, limit=30.0):
        """Run a script in the VM. Return: (exit code, output). Raise: ConnectionError when the session ended"""
        self.send(f"{{ {script}\n}} </dev/null 2>&1; code=$?; echo; echo {self._mark} $code\n")
        output, until = b"", time.monotonic() + limit
        mark = f"\n{self._mark} ".encode()
        while mark not in output or not output.endswith(b"\n"):
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise TimeoutError(f"no end after {limit} s: {script}")
            piece = os.read(self._process.stdout.fileno(), 65536)
            if not piece:
                raise ConnectionError(f"the session ended: {script}")
            output += piece
        text, _, code = output.rpartition(mark)
        return int(code), text.decode("utf-8", "replace").strip()

    def send(self, line):
        """Type something without waiting for its end, for what ends the machine."""
        try:
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        except OSError as error:
            raise ConnectionError(str(error)) from error

    def close(self):
        """End the session."""
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


class Attack(NamedTuple):
    """One attempt to get out. @code: what the provider calls it; "" for what is dropped without a violation."""

    name: str
    how: str  # tcp | udp | icmp | or a shell command
    ip: str
    port: int = 0
    code: str = ""

    def command(self):
        """The shell command that tries it and prints the attack's name if an answer came back."""
        reached = "&& echo " + shlex.quote(f"reached {self.name}")
        if self.how == "tcp":
            return f"timeout 4 nc -w 2 {self.ip} {self.port} </dev/null | grep -q . {reached}"
        if self.how == "udp":  # busybox has no other sender of UDP; the listeners answer it with an error
            return f"timeout 2 tftp -g -l /dev/null -r x {self.ip} {self.port} 2>&1 | grep -q {TFTP_ERROR} {reached}"
        if self.how == "icmp":
            return f"ping -c 2 -i 1 -W 1 {self.ip} >/dev/null {reached}"
        return f"{{ {self.how}; }} >/dev/null {reached}"

    def is_seen_in(self, packet):
        """Whether a packet outside of the VM is this attack's."""
        protocol = {"tcp": 6, "udp": 17, "icmp": 1}.get(self.how, packet.protocol)
        return packet.protocol == protocol and packet.destination == (self.ip, self.port)

    def matches(self, violation):
        """Whether the provider's violation is this attack. ARP has no destination."""
        return violation["code"] == self.code and violation["destination_ip"] in (self.ip, None) and \
            violation["destination_port"] in (self.port, None)


FOREIGN, PORT, PROTOCOL = "destination_not_allowed", "port_not_allowed", "protocol_not_allowed"
SPOOFED_IP = "192.168.64.77"


def attacks(provider, lan_provider, lan_host, consumer, internet):
    """Everything that a hostile tenant tries. @consumer: (ip, allowed port), @internet: two addresses"""
    ip, port = consumer
    far, web = internet
    return [
        Attack("internet by TCP", "tcp", web, 80, FOREIGN),
        Attack("internet by UDP", "udp", web, 53, FOREIGN),
        Attack("internet by ICMP", "icmp", far, 0, FOREIGN),
        Attack("internet DNS by UDP", "udp", far, 53, FOREIGN),
        Attack("internet DNS lookup", f"timeout 2 nslookup omerta.example {far}", far, 53, FOREIGN),
        Attack("internet DNS by TCP", "tcp", far, 53, FOREIGN),
        Attack("provider LAN by TCP", "tcp", lan_host, 80, FOREIGN),
        Attack("provider LAN by UDP", "udp", lan_host, 53, FOREIGN),
        Attack("provider LAN by ICMP", "icmp", lan_host, 0, FOREIGN),
        Attack("provider host by TCP", "tcp", provider, 8080, FOREIGN),
        Attack("provider host by UDP", "udp", provider, 8080, FOREIGN),
        Attack("provider host by ICMP", "icmp", provider, 0, FOREIGN),
        Attack("provider LAN address by TCP", "tcp", lan_provider, 8080, FOREIGN),
        Attack("provider LAN address by UDP", "udp", lan_provider, 8080, FOREIGN),
        Attack("provider localhost by TCP", "tcp", "127.0.0.1", 8080, FOREIGN),
        Attack("provider localhost by UDP", "udp", "127.0.0.1", 8080, FOREIGN),
        Attack("provider localhost by ICMP", "icmp", "127.0.0.1", 0, FOREIGN),
        Attack("gateway by TCP", "tcp", GATEWAY, 8080, FOREIGN),
        Attack("gateway DNS by UDP", "udp", GATEWAY, 53, FOREIGN),
        Attack("gateway by ICMP", "icmp", GATEWAY, 0, FOREIGN),
        Attack("another port of the consumer", "udp", ip, 51999, PORT),
        Attack("consumer DNS by UDP", "udp", ip, 53, PORT),
        Attack("consumer by TCP", "tcp", ip, 80, PROTOCOL),
        Attack("the tunnel's own port by TCP", "tcp", ip, port, PROTOCOL),
        Attack("consumer by ICMP", "icmp", ip, 0, PROTOCOL),
        Attack("metadata service", "tcp", "169.254.169.254", 80, FOREIGN),
        Attack("spoofed source address", f"ping -c 1 -W 1 -I {SPOOFED_IP} {web}", web, 0, "source_ip_spoofed"),
        Attack("fragments", f"ping -c 1 -W 1 -s 3000 {web}", web, 0, "fragment"),
        Attack("broadcast", "ping -c 1 -W 1 192.168.64.255", "192.168.64.255"),
        Attack("multicast", "ping -c 1 -W 1 224.0.0.251", "224.0.0.251"),
        Attack("ARP for a stolen address", f"arping -q -A -c 1 -w 1 -I eth0 -s {SPOOFED_IP} {SPOOFED_IP}; false",
               SPOOFED_IP, 0, "arp_spoofed"),
        Attack("a neighbour VM", "icmp", "192.168.64.3"),
    ]


def drop_firewall(shell, targets):
    """Take the VM's own protection away and route each target around the tunnel. Return: the shell's output"""
    routes = "\n".join(f"ip route replace {ip}/32 via {GATEWAY} dev eth0" for ip in sorted(targets))
    code, output = shell.run(f"""
        iptables -F; iptables -P INPUT ACCEPT; iptables -P OUTPUT ACCEPT; iptables -P FORWARD ACCEPT
        for name in all eth0; do echo 1 >/proc/sys/net/ipv4/conf/$name/route_localnet; done
        ip address del 127.0.0.1/8 dev lo
        ip address add {SPOOFED_IP}/32 dev eth0
        ip route replace 224.0.0.0/4 dev eth0
        {routes}
        iptables -S""")
    if code != 0 or "-P OUTPUT ACCEPT" not in output or "DROP" in output:
        raise RuntimeError(f"the guest's firewall still stands: {output}")
    return output


def run_attacks(shell, tries):
    """Try them all at once, which is how long the slowest takes. Return: names of those that had an answer"""
    script = "\n".join(f"( {attack.command()} ) &" for attack in tries)
    _, output = shell.run(f"{script}\nwait", limit=60)
    return [line.removeprefix("reached ") for line in output.splitlines() if line.startswith("reached ")]


def detour_targets(tries):
    """Addresses that need a route of their own to leave through eth0."""
    local = ("192.168.64.", "224.")
    return {attack.ip for attack in tries if not attack.ip.startswith(local)}
