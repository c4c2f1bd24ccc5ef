"""GET /metrics before Prometheus' own checker, and against what really happened; request ids and traces in the log."""

import re
import shutil
import subprocess

import guest
from case import DaemonCase, wait_for
from daemon import ROOT

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLE = re.compile(r'([a-z_]+)(?:\{(.*)\})? (\S+)$')
COUNTER = re.compile(r"_total|_count|_sum|_bucket")


def promtool():
    """Prometheus' checker, as make fetched it or as it is installed; None when there is none."""
    made = ROOT / "build" / "tools" / "promtool"
    return made if made.exists() else shutil.which("promtool")


def parse(text):
    """{(name, frozenset of labels): value} of every sample."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, labels, value = SAMPLE.match(line).groups()
            found[name, frozenset(re.findall(r'(\w+)="([^"]*)"', labels or ""))] = float(value)
    return found


class Metrics(DaemonCase):
    """One daemon, scraped through a lease's life."""

    def scrape(self):
        """All samples now, each counter at least what it was at the last scrape."""
        answer = self.client.request("GET", "/metrics")
        self.assertEqual(200, answer.status)
        self.text = answer.body.decode()
        samples, before = parse(self.text), getattr(self, "before", {})
        for key, value in before.items():
            if COUNTER.search(key[0]):
                self.assertGreaterEqual(samples.get(key, -1), value, key)
        self.before = samples
        return samples

    def value(self, name, **labels):
        """One sample of a fresh scrape; 0 when it is not there."""
        return self.scrape().get((name, frozenset(labels.items())), 0)

    def check_format(self):
        """promtool has nothing to say about the last scrape."""
        self.assertTrue(promtool(), "make fetches promtool: make build/tools/promtool")
        done = subprocess.run([promtool(), "check", "metrics"], input=self.text, capture_output=True, text=True,
                              timeout=60)
        self.assertEqual((0, ""), (done.returncode, done.stdout + done.stderr))

    def test_a_fresh_daemon(self):
        samples = self.scrape()
        self.check_format()
        version = (ROOT / "VERSION").read_text(encoding="ascii").strip()
        self.assertEqual(1, samples["omertad_build_info", frozenset({("version", version)})])
        self.assertEqual(8, samples["omertad_capacity", frozenset({("resource", "leases")})])
        self.assertEqual(self.daemon.descriptors(), self.value("process_open_fds") - 1)  # its own connection
        resident = self.daemon.resident_kib() * 1024
        self.assertAlmostEqual(resident, self.value("process_resident_memory_bytes"), delta=resident / 4)

    def test_a_format_that_is_wrong_would_be_seen(self):
        self.text = "# TYPE omertad_things counter\nomertad_things 1\n"
        with self.assertRaises(AssertionError):
            self.check_format()

    def test_over_tcp_a_token_is_needed(self):
        self.assertEqual(401, self.daemon.tcp_client().request("GET", "/metrics").status)
        token = (self.daemon.data / "token").read_text(encoding="ascii").strip()
        answer = self.daemon.tcp_client({"Authorization": f"Bearer {token}"}).request("GET", "/metrics")
        self.assertEqual(200, answer.status)

    def test_requests_are_counted_by_route_and_labels_are_bounded(self):
        route = {"method": "GET", "route": "/v1/leases/{id}", "status": "4xx"}
        name = "omertad_http_request_duration_seconds_count"
        refused = {"method": "", "route": "", "status": "4xx"}
        self.scrape()  # its own histogram is there from the second on
        before, families = self.value(name, **route), len(self.before)
        refusals = self.value(name, **refused)
        for number in range(20):
            self.client.request("GET", f"/v1/leases/{number}")
            self.client.request("GET", f"/nowhere/{number}")
        self.assertEqual(before + 20, self.value(name, **route))
        self.assertEqual(refusals + 20, self.value(name, **refused))
        self.assertLess(len(self.before), families + 40)  # two histograms more, and no more
        self.check_format()

    def test_request_ids_and_traces_are_in_the_log(self):
        answer = self.client.request("GET", "/v1/node", headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"})
        line = self.line_of(answer)
        self.assertIn(f"trace={TRACE} parent=00f067aa0ba902b7", line)
        self.assertIn('method=GET route="/v1/node" status=200', line)
        for wrong in ("00-" + TRACE, f"00-{TRACE.upper()}-00f067aa0ba902b7-01", "x"):
            answer = self.client.request("GET", "/v1/node", headers={"traceparent": wrong})
            self.assertEqual(200, answer.status)
            self.assertIn("trace= parent=", self.line_of(answer))

    def line_of(self, answer):
        """The log line of a request."""
        request_id = answer.headers["X-Request-Id"]
        return wait_for(lambda: [line for line in self.daemon.log().splitlines()
                                 if "event=http.request" in line and request_id in line], 20, "the line")[0]

    def test_a_lease_moves_the_numbers_and_its_end_takes_nothing_back(self):
        ended = self.value("omertad_terminations_total", reason="released")
        answer = self.client.request("POST", "/v1/leases", self.lab.request(self.lab.consumer(0)),
                                     headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-00"})
        lease = self.lab.adopt(self.daemon, self.lab.consumer(0), answer)
        self.addCleanup(self._end, lease)
        self.assertIn(f"lease={lease.id} trace={TRACE}", self.line_of(answer))
        lease.wait_tunnel()
        self.assertEqual({TRACE}, {event["trace_id"] for event in lease.events()})
        shell = lease.shell()
        self.assertEqual(1, self.value("omertad_leases", state="running", mode="filtered"))
        self.assertEqual(1, self.value("omertad_tunnels", state="established"))
        self.assertEqual(1, self.value("omertad_machines"))
        self.assertGreater(self.value("omertad_nat_frames_total", verdict="forward", reason="allowed"), 0)
        self.assertGreater(self.value("omertad_nat_inbound_packets_total", outcome="delivered"), 0)
        attack = next(one for one in self.lab.attacks(lease.consumer) if one.code == guest.FOREIGN and one.how == "udp")
        guest.drop_firewall(shell, guest.detour_targets([attack]))
        guest.run_attacks(shell, [attack])
        wait_for(lambda: self.value("omertad_violations_total", code=guest.FOREIGN), 10, "a violation counted")
        dropped = {"verdict": "drop", "reason": guest.FOREIGN}
        counted = self.value("omertad_nat_frames_total", **dropped)
        self.assertGreater(counted, 0)
        self.check_format()
        shell.close()
        lease.release()
        lease.wait_end()
        self.assertEqual(0, self.value("omertad_machines"))
        self.assertGreaterEqual(self.value("omertad_nat_frames_total", **dropped), counted)
        self.assertEqual(ended + 1, self.value("omertad_terminations_total", reason="released"))
        self.assertEqual(0, self.value("omertad_leases", state="running", mode="filtered"))
        self.assertEqual(self.client.items("/v1/events")[-1]["sequence"], self.value("omertad_events_total"))
        violations = self.value("omertad_violations_total", code=guest.FOREIGN)
        self.daemon.stop()
        self.daemon.start()
        self.before = {}
        self.assertEqual(violations, self.value("omertad_violations_total", code=guest.FOREIGN))
