#!/usr/bin/env python3
"""The demo: lease a VM, reach it through its tunnel, attack from inside, release it, prove that nothing is left.

Non-interactive; exit code 0 only if all held. The last line is one JSON object.
"""

import json
import pathlib
import shlex
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import guest  # noqa: E402
import lab as laboratory  # noqa: E402
from daemon import process_field, process_started_at, wait_for  # noqa: E402
from progress import Progress  # noqa: E402


class Failed(Exception):
    """Something did not hold."""


def check(condition, text):
    """Raise Failed unless it holds."""
    if not condition:
        raise Failed(text)


class Demo:
    """One run. Times are wall clock, because the API's and the kernel's are compared with ours."""

    def __init__(self, lab, progress):
        self.lab, self.progress = lab, progress
        self.daemon = lab.daemon("demo")
        self.result = {}

    def run(self):
        """All steps in their order. Return: the result"""
        self.serve()
        self.lease()
        self.reach()
        self.attack()
        self.show_violations()
        self.release()
        return self.result

    def say(self, text):
        """One line of progress."""
        self.progress.say(f"[{time.time() - STARTED:5.1f} s] {text}")

    def curl(self, *words):
        """Show a curl call, run it. Return: its JSON"""
        self.progress.say(f"        $ curl --unix-socket {self.daemon.socket} " + shlex.join(map(str, words)))
        done = subprocess.run(self.daemon.curl(*words), check=True, capture_output=True, text=True, timeout=15)
        return json.loads(done.stdout)

    def serve(self):
        """Start the daemon as an ordinary user."""
        self.daemon.start()
        caps = process_field(self.daemon.pid, "CapEff")
        check(int(caps, 16) == 0, f"omertad has capabilities: {caps}")
        self.say(f"omertad serves as uid {self.lab.user.uid} without capabilities, "
                 f"{self.daemon.resident_kib() // 1024} MiB resident")
        accelerator = self.daemon.client().get("/v1/node")["accelerator"]
        self.say(f"accelerator {accelerator['name']}: {accelerator['reason']}")
        self.consumer = self.lab.consumer(0)
        self.say(f"a consumer waits at {self.consumer.endpoint} (wireguard-go in a namespace of its own)")

    def lease(self):
        """Lease a VM with curl and wait until its tunnel is up on both ends."""
        body = self.daemon.folder / "lease.json"
        body.write_text(json.dumps(self.lab.request(self.consumer, ttl_s=600), indent=1), encoding="ascii")
        body.chmod(0o644)
        posted = time.time()
        document = self.curl("-H", "Content-Type: application/json", "-d", f"@{body}", "http://localhost/v1/leases")
        check(document.get("state") == "pending", f"the lease was refused: {document}")
        self.vm = laboratory.Lease(self.lab, self.daemon, self.consumer, 0, document)
        self.say(f"lease {self.vm.id} accepted after {1000 * (time.time() - posted):.0f} ms")
        machine = wait_for(self.vm.machine, 20, "hypervisor started")
        started = process_started_at(machine)
        check(int(process_field(machine, "CapEff"), 16) == 0, "QEMU has capabilities")
        check(process_field(machine, "Uid") == process_field(self.daemon.pid, "Uid"), "QEMU has another uid")
        self.say(f"QEMU runs as the same uid, pid {machine}")
        self.progress.doing("the VM boots and makes its tunnel")
        self.vm.wait_tunnel()
        established = time.time()
        wait_for(lambda: self.consumer.handshake_at(self.vm.vm_key), 5, "handshake seen by the consumer")
        self.result.update(tunnel="established", lease_to_tunnel_ms=round(1000 * (established - posted)),
                           qemu_to_tunnel_ms=round(1000 * (established - started)))
        self.say(f"tunnel established {established - posted:.1f} s after the request, "
                 f"{established - started:.1f} s after QEMU's start")

    def reach(self):
        """Reach the VM through the tunnel, and the consumer from the VM."""
        check(self.consumer.pings(self.vm.vm_ip, 3), "no ping through the tunnel")
        self.shell = self.vm.shell()
        code, name = self.shell.run("uname -sr")
        check(code == 0, "no SSH through the tunnel")
        code, answer = self.shell.run(f"nc -w 5 {self.consumer.tunnel_ip} 80 </dev/null")
        check(code == 0 and "hi" in answer, "no TCP from the VM to the consumer")
        self.say(f"ping, SSH ({name}) and HTTP back to the consumer work through the tunnel")

    def attack(self):
        """With the guest's firewall gone, try everything; judge by what was seen outside."""
        tries = self.lab.attacks(self.consumer)
        guest.drop_firewall(self.shell, guest.detour_targets(tries))
        self.say(f"the VM's own firewall is gone; {len(tries)} attempts to get out past the tunnel ...")
        self.progress.doing("attacking")
        reached = set(guest.run_attacks(self.shell, tries))
        leaks = self.lab.oracle.leaks()
        self.progress.quiet()
        for attack in tries:
            out = attack.name in reached or any(attack.is_seen_in(leak) for leak in leaks)
            print(f"        {'GOT OUT' if out else 'blocked'}  {attack.name:32} {attack.ip}"
                  f"{f':{attack.port}' if attack.port else ''}")
            self.result["blocked"] = self.result.get("blocked", 0) + (not out)
        for leak in leaks:
            print(f"        LEAKED   {leak}")
        check(self.result["blocked"] == len(tries) and not leaks and not self.lab.arrived(), "something got out")
        check(self.consumer.pings(self.vm.vm_ip), "the tunnel is broken")
        self.say(f"{len(tries)} blocked, 0 leaked ({self.lab.oracle.seen} packets seen on the provider's link and "
                 "loopback), the tunnel still works")

    def show_violations(self):
        """The violations as the API tells them."""
        self.progress.doing("the violations are written down")
        expected = {attack.code for attack in self.lab.attacks(self.consumer)} - {""}
        wait_for(lambda: expected <= {item["code"] for item in self.vm.violations()}, 10, "all codes reported")
        items = self.curl(f"http://localhost{self.vm.path}/violations?limit=200")["items"]
        for item in items:
            print(f"        {item['code']:24} {item['destination_ip'] or '-':16} "
                  f"port {item['destination_port'] or '-':<6} protocol {item['ip_protocol'] or '-':<4} "
                  f"x {item['count']}")
        self.result["violations"] = len(items)
        self.say(f"{len(items)} violations reported by the API")

    def release(self):
        """Release the lease and look for what is left."""
        self.shell.close()
        self.curl("-X", "DELETE", f"http://localhost{self.vm.path}")
        self.progress.doing("the machine ends")
        termination = self.vm.wait_end()
        self.say(f"lease terminated: {termination['reason']}")
        leaks = self.lab.oracle.leaks()
        check(self.daemon.stop() == 0, "omertad did not end in good order")
        left = self.daemon.left_over() + [f"{pid} {words}" for pid, words in self.lab.prov.processes()]
        self.say(f"omertad ended, {len(left)} things left over {left or ''}")
        self.result.update(leaked=len(leaks), terminated=termination["reason"], left_over=len(left))
        check(not leaks and not left and termination["reason"] == "released", "something is left or leaked")


KEYS = ("tunnel", "lease_to_tunnel_ms", "qemu_to_tunnel_ms", "blocked", "leaked", "violations", "terminated",
        "left_over")
STARTED = time.time()


def main():
    """Run the demo. Return: exit code"""
    progress = Progress()
    progress.doing("the lab is made: namespaces, a capture, a consumer")
    with laboratory.Lab() as lab:
        demo = Demo(lab, progress)
        demo.say("the lab is up; its oracle has shown that it sees leaks")
        try:
            result = demo.run()
        except (Failed, AssertionError, TimeoutError, RuntimeError, OSError, subprocess.SubprocessError) as error:
            progress.quiet()
            print(f"FAILED: {error}", file=sys.stderr)
            print("\n".join(demo.daemon.log().splitlines()[-25:]), file=sys.stderr)
            return 1
    print(json.dumps({key: result[key] for key in KEYS}, separators=(",", ":")))
    return 0


if __name__ == "__main__":
    sys.exit(laboratory.run(main))
