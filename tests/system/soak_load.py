"""The load of a soak: tenants that lease, use and end machines in every way there is, readers of the event stream, and a
consumer that sends back what comes. All of them go on through a daemon that is gone for a while."""

import collections
import http.client
import random
import threading
import time
import uuid

import fake_machine
import frames
from lab import CONSUMER
from nat_case import ALLOWED, PORT, LeasedGuest
from sse import Follower, unix_opener

ENDPOINT = f"{CONSUMER}:{PORT}"
GONE = (OSError, http.client.HTTPException)  # what a client sees of a daemon that is not there
PATIENCE_S = 60.0  # for one step of one lease, on a busy machine
DATAGRAMS = 30

# What a tenant does with a lease, how often, and how the lease ends by that while the daemon lives.
PLANS = {
    "release": (30, "released"),
    "traffic": (25, "released"),
    "change_policy": (10, "released"),
    "violate": (10, "released"),
    "violate_to_death": (10, "policy_violation"),
    "renew": (5, "released"),
    "beat": (5, "released"),
    "fall_silent": (5, "heartbeat_lost"),
    "expire": (5, "lease_expired"),
}
EXTERNAL = {"traffic", "change_policy", "violate", "violate_to_death"}


class Echo:
    """The consumer: one socket in the world that answers each datagram with itself."""

    def __init__(self, lab):
        self._rules = lab.rules
        self._rules.consumers.add(ALLOWED)
        self._socket = lab.world.socket()
        self._socket.bind(ALLOWED)
        self._socket.settimeout(0.2)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="echo", daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stop.is_set():
            try:
                data, source = self._socket.recvfrom(2048)
                self._socket.sendto(data, source)
            except OSError:  # nothing came, or a flow that is gone says so by ICMP
                pass

    def close(self):
        """No longer there."""
        self._stop.set()
        self._thread.join()
        self._socket.close()
        self._rules.consumers.discard(ALLOWED)


class Crew:
    """Threads that work while they are let, and stop between two pieces of work when they are not."""

    def __init__(self):
        self._go, self._stop = threading.Event(), threading.Event()
        self._threads, self._busy, self._lock = [], 0, threading.Condition()
        self.problems = []

    def add(self, name, work):
        """One more thread, which calls @work again and again."""
        thread = threading.Thread(target=self._run, args=(name, work), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self, name, work):
        while self._go.wait() and not self._stop.is_set():
            with self._lock:
                self._busy += 1
            try:
                work()
            except Exception as error:  # a thread that ends is a soak that tests less and less
                self.problems.append(f"{name}: {type(error).__name__}: {error}")
                time.sleep(1)
            finally:
                with self._lock:
                    self._busy -= 1
                    self._lock.notify_all()

    def go(self):
        """Work."""
        self._go.set()

    def pause(self, limit):
        """Finish what was begun. Raise: TimeoutError when that takes longer than @limit seconds"""
        self._go.clear()
        with self._lock:
            if not self._lock.wait_for(lambda: self._busy == 0, limit):
                raise TimeoutError(f"{self._busy} threads are not done after {limit} s")

    def close(self):
        """End all threads."""
        self._stop.set()
        self._go.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)


class Tenant:
    """Leases one machine after the other. One thread."""

    def __init__(self, daemon, guests, number, seed, is_stormy):
        self._daemon, self._client = daemon, daemon.client()
        self._socket = guests / f"tenant{number}.sock"
        self._dice = random.Random(seed * 1000 + number)
        self._is_stormy = is_stormy
        self.ends, self.plans = collections.Counter(), collections.Counter()
        self.datagrams = self.policies = self.refused = 0

    def work(self):
        """One lease from its request to its end."""
        plan = self._dice.choices(list(PLANS), [weight for weight, _ in PLANS.values()])[0]
        stormy = self._is_stormy()
        answer = self._ask("POST", "/v1/leases", self._body(plan), {"Idempotency-Key": str(uuid.uuid4())})
        if answer.status in (503, 507):  # drained, leaving, or full
            self.refused += 1
            time.sleep(0.1)
            return
        if answer.status != 202:
            raise AssertionError(f"POST {plan}: {answer.status} {answer.body[:300]!r}")
        path = f"/v1/leases/{answer.json['id']}"
        lease = self._until(path, ("running", "terminated"))
        done = lease["state"] != "running" or self._use(plan, path, lease)
        allowed = {PLANS[plan][1]}
        if not done or plan == "violate_to_death" and self._is_stormy():  # the frame may be lost with a daemon
            allowed.add("released")
        reason = self._until(path, ("terminated",), release="released" in allowed)["termination"]["reason"]
        if stormy or self._is_stormy():  # what had not begun to run ends with its daemon
            allowed |= {"recovery_failed", "provider_shutdown"}  # by the next daemon, or as its own left
        if reason not in allowed:
            raise AssertionError(f"{path}, which was to {plan}, ended with {reason}")
        self.ends[reason] += 1
        self.plans[plan] += 1

    def _body(self, plan):
        changes = {"fall_silent": {"heartbeat_timeout_s": 1}, "beat": {"heartbeat_timeout_s": 300},
                   "expire": {"ttl_s": 1}, "renew": {"ttl_s": 300}}.get(plan, {})
        if plan in EXTERNAL:
            # Only the full check finds every forbidden frame, and only `conntrack` ends a lease for one by default.
            mode = {"violate": "filtered", "violate_to_death": "conntrack"}.get(
                plan, self._dice.choice(("filtered", "conntrack", "sampled")))
            changes |= {"attachment": "external", "image": None, "ssh": None, "network": {"mode": mode}}
        return fake_machine.request("fake", ENDPOINT, **changes)

    def _use(self, plan, path, lease):
        """What the plan says. Return: whether all of it could be done"""
        if plan == "renew":
            self._ask("POST", f"{path}/renewals", {"ttl_s": 600})
        elif plan == "beat":
            for _ in range(3):
                self._ask("PUT", f"{path}/heartbeat")
        elif plan in EXTERNAL:
            try:
                self._send(plan, path, lease)
            except OSError:
                return self._ask("GET", path).json["state"] in ("stopping", "terminated")  # else no daemon was there
        return True

    def _change_policy(self, path):
        """The same consumer under another policy."""
        policy = self._ask("GET", f"{path}/policy")
        body = {"mode": self._dice.choice(("filtered", "conntrack")), "allowlist": [ENDPOINT],
                "limits": {"egress_packets_per_s": 1000000}}
        answer = self._ask("PUT", f"{path}/policy", body, {"If-Match": policy.headers["ETag"]})
        # Asked again after a kill it may have been done, or its lease may have ended.
        if answer.status != 200 and not self._is_stormy():
            raise AssertionError(f"PUT {path}/policy: {answer.status} {answer.body[:300]!r}")
        self.policies += answer.status == 200

    def _send(self, plan, path, lease):
        guest = LeasedGuest(self._socket, lease["attachment"]["socket_path"], frames.mac(lease["network"]["guest_mac"]))
        try:
            for number in range(DATAGRAMS):
                guest.send_udp(number.to_bytes(4, "big") * self._dice.randrange(1, 300))
                self.datagrams += guest.receive() is not None
                if plan == "change_policy" and number == DATAGRAMS // 2:
                    self._change_policy(path)
            if plan.startswith("violate"):
                guest.send_udp(b"never", destination=(CONSUMER, 53))
        finally:
            guest.close()

    def _ask(self, method, path, body=None, headers=None):
        """One request, again and again while no daemon is there. Return: its answer"""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self._client.request(method, path, body, headers, timeout=PATIENCE_S)
            except GONE:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)

    def _until(self, path, states, release=False):
        """The lease, once it is in one of @states; asked to end with @release, and again if that went with a daemon."""
        until = time.monotonic() + PATIENCE_S
        while True:
            if release:
                self._ask("DELETE", path)
                release = self._is_stormy()
            answer = self._ask("GET", path)
            if answer.status == 200 and answer.json["state"] in states:
                return answer.json
            if time.monotonic() > until:
                raise TimeoutError(f"{path} is not {' or '.join(states)}: {answer.body[:400]!r}")
            time.sleep(0.05)


class Reader:
    """Follows the events for a moment, reads them or not, hangs up. One thread."""

    def __init__(self, daemon, number, seed):
        self._opener = unix_opener(daemon.socket)
        self._dice = random.Random(seed * 1000 + 500 + number)
        self.events = 0

    def work(self):
        """One connection."""
        try:
            with Follower(self._opener, headers={"Last-Event-ID": "0"} if self._dice.random() < 0.1 else None) as stream:
                if self._dice.random() < 0.3:
                    time.sleep(self._dice.uniform(0.1, 1))  # a reader that does not read
                else:
                    self.events += len(stream.frames(count=2000, limit=self._dice.uniform(0.1, 2)))
        except GONE:
            time.sleep(0.1)
