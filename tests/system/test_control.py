"""The control plane as programs use it: retries, races, time limits, filters. The hypervisor is a fake that boots nothing,
so that a thousand leases take seconds; everything else is the real daemon over real HTTP."""

import concurrent.futures
import json
import os
import random
import signal
import threading
import time

import fake_machine
from case import DaemonCase, wait_for
from daemon import process_arguments

PAIRS = 50
RACES = 1000
WORKERS = 8


class FakeMachines(DaemonCase):
    """A daemon whose machines are processes that speak QMP and end when they are told to."""

    room = {"leases": 64, "vcpus": 64, "memoryMib": 16384, "diskMib": 4096}

    @classmethod
    def setUpClass(cls):
        cls.daemon = cls.lab.daemon(cls.__name__.lower(), image=False)
        cls.fake = fake_machine.install(cls.daemon.folder)
        fake_machine.make_image(cls.daemon.images / "fake")
        cls.daemon.configure({"hypervisor": {"qemu": str(cls.fake)}, "capacity": cls.room})
        cls.daemon.start()
        cls.client = cls.daemon.client()

    @staticmethod
    def body(**changes):
        """A request of a consumer that nobody else has; a change of None leaves the member out."""
        return fake_machine.request("fake", "198.51.100.2:51900", **changes)

    def post(self, body, key=None, query=""):
        """POST /v1/leases. Return: the answer"""
        return self.client.request("POST", f"/v1/leases{query}", body, {"Idempotency-Key": key}, timeout=60)

    def made(self, **changes):
        """A lease that was admitted, ended with the test. Return: its JSON"""
        answer = self.post(self.body(**changes))
        self.assertEqual(202, answer.status, answer.body)
        self.addCleanup(self.release_all)
        return answer.json

    def living(self):
        """Leases that have not ended."""
        return [lease for lease in self.client.items("/v1/leases?limit=200") if lease["state"] != "terminated"]

    def release_all(self):
        """End every lease and wait until nothing of them is left."""
        if not self.daemon.running:
            return
        for lease in self.living():
            self.client.request("DELETE", f"/v1/leases/{lease['id']}")
        wait_for(lambda: not self.living(), 60, "every lease has ended", every=0.1)
        self.assert_nothing_of_machines()

    def assert_nothing_of_machines(self):
        """No process, no socket, no disk, no seed; and all capacity is free again."""
        def left():
            processes = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
                         if (process_arguments(pid) or [""])[0] == str(self.fake)]
            folders = [path for path in (self.daemon.runtime / "machines").iterdir()]
            disks = [path for path in self.daemon.data.rglob("*") if path.suffix in (".raw", ".qcow2", ".img")]
            return processes + folders + disks
        try:
            wait_for(lambda: not left(), 20, "nothing of a machine")
        except TimeoutError:
            self.assertEqual([], left())
        used = self.client.get("/v1/node")["capacity"]["used"]
        self.assertEqual({"leases": 0, "vcpus": 0, "memory_mib": 0, "disk_mib": 0}, used)

    def events(self, lease_id, kind):
        """Data of a lease's events of one type."""
        found = self.client.get(f"/v1/events?lease_id={lease_id}&limit=200")["items"]
        return [event["data"] for event in found if event["type"] == kind]

    def ended(self, lease_id, limit=20):
        """The lease once it has ended."""
        return wait_for(lambda: (lease := self.client.get(f"/v1/leases/{lease_id}"))["termination"] and lease, limit,
                        "the lease has ended")


class Retries(FakeMachines):
    """The same request twice."""

    def test_fifty_pairs_of_equal_requests_make_fifty_leases(self):
        self.addCleanup(self.release_all)
        before = len(self.client.items("/v1/leases?limit=200"))
        bodies = [json.dumps(self.body()).encode() for _ in range(PAIRS)]
        gates = [threading.Barrier(2) for _ in range(PAIRS)]
        in_flight = []

        def send(pair):
            gates[pair].wait(30)
            while (answer := self.post(bodies[pair], f"pair-{pair}")).status == 409:
                self.assertEqual("request-in-flight", answer.slug)
                in_flight.append(pair)
            return answer.status, answer.headers["Location"], answer.headers["ETag"], answer.body

        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            jobs = [pool.submit(send, number // 2) for number in range(2 * PAIRS)]
            answers = [job.result() for job in jobs]
        for first, second in zip(answers[::2], answers[1::2]):
            self.assertEqual(202, first[0])
            self.assertEqual(first, second)
        self.assertEqual(PAIRS, len({answer[1] for answer in answers}))
        self.assertEqual(PAIRS, len(self.client.items("/v1/leases?limit=200")) - before)
        created = [event for event in self.client.items("/v1/events?limit=200") if event["type"] == "lease.created"][:PAIRS]
        self.assertEqual(PAIRS, len({event["lease_id"] for event in created}))

    def test_the_answer_outlives_the_lease_and_the_daemon(self):
        body = self.body(labels={"a": "b"}, consumer=dict(self.body()["consumer"], preshared_key="cHNr" * 10 + "cHM="))
        first = self.post(body, "once")
        self.assertEqual(202, first.status, first.body)
        self.release_all()
        self.daemon.stop(signal.SIGKILL)
        self.daemon.start()
        other_order = json.dumps(dict(reversed(body.items())), indent=3).encode()
        for again in (body, other_order):
            answer = self.post(again, "once")
            self.assertEqual((first.status, first.headers["Location"], first.headers["ETag"], first.body),
                             (answer.status, answer.headers["Location"], answer.headers["ETag"], answer.body))
        self.assertEqual([], self.living())
        changed = self.post(dict(body, ttl_s=9), "once")
        self.assertEqual((422, "idempotency-key-reused"), (changed.status, changed.slug))
        for path in self.daemon.data.rglob("*"):
            if path.is_file():
                self.assertNotIn(body["consumer"]["preshared_key"].encode(), path.read_bytes(), path)
        # Neither a crash of the daemon nor of this test leaves its machines.
        self.assert_nothing_of_machines()

    def test_a_refused_request_keeps_no_key(self):
        bad = self.post(self.body(image="absent"), "again")
        self.assertEqual(422, bad.status)
        good = self.post(self.body(), "again")
        self.assertEqual(202, good.status, good.body)
        self.release_all()

    def test_keys_that_cannot_be(self):
        for key in ("k" * 256, "a b", "\u00e9", ""):
            with self.subTest(key):
                answer = self.post(self.body(), key)
                self.assertEqual((400, "idempotency-key-invalid"), (answer.status, answer.slug))
        for method, path in (("GET", "/v1/leases"), ("POST", "/v1/images/fake/verifications")):
            answer = self.client.request(method, path, headers={"Idempotency-Key": "k"})
            self.assertEqual((400, "idempotency-not-supported"), (answer.status, answer.slug))
        self.assertEqual([], self.living())

    def test_a_dry_run_has_no_effect(self):
        last = self.client.get("/v1/events?limit=200")["next_cursor"]
        answer = self.post(self.body(ttl_s=60, labels={"x": "y"}), query="?dry_run=true")
        self.assertEqual(200, answer.status, answer.body)
        self.assertIsNone(answer.headers["Location"])
        self.assertEqual(("pending", 60, {"x": "y"}, "filtered"),
                         (answer.json["state"], answer.json["ttl_s"], answer.json["labels"],
                          answer.json["network"]["mode"]))
        self.assertEqual(404, self.client.request("GET", f"/v1/leases/{answer.json['id']}").status)
        self.assertEqual(last, self.client.get("/v1/events?limit=200")["next_cursor"])
        self.assert_nothing_of_machines()
        self.assertEqual(422, self.post(self.body(image="absent"), query="?dry_run=true").status)
        lease = self.made()
        twin = self.body(consumer=dict(lease["consumer"]))
        self.assertEqual((409, "peer-in-use"), (lambda a: (a.status, a.slug))(self.post(twin, query="?dry_run=true")))
        for word in ("yes", "1", "", "TRUE"):
            self.assertEqual(400, self.post(self.body(), query=f"?dry_run={word}").status, word)


class Races(FakeMachines):
    """Requests that meet."""

    room = {"leases": 16, "vcpus": 3, "memoryMib": 4096, "diskMib": 4096}

    def test_of_parallel_requests_for_the_last_slot_one_wins(self):
        for _ in range(5):
            self.made()
            self.made()
            gate = threading.Barrier(WORKERS)

            def ask(_, gate=gate):
                gate.wait(30)
                return self.post(self.body())

            with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
                answers = list(pool.map(ask, range(WORKERS)))
            self.assertEqual([202] + [507] * (WORKERS - 1), sorted(answer.status for answer in answers))
            for answer in answers:
                if answer.status == 507:
                    self.assertEqual("insufficient-capacity", answer.slug)
                    self.assertEqual(["/resources/vcpus"], answer.pointers)
            self.release_all()

    def test_everything_that_is_short_is_named(self):
        self.made(resources={"vcpus": 3, "memory_mib": 3900, "disk_mib": 0})
        answer = self.post(self.body(resources={"vcpus": 1, "memory_mib": 100, "disk_mib": 1}))
        self.assertEqual(507, answer.status)
        self.assertEqual(["/resources/vcpus", "/resources/memory_mib"], answer.pointers, answer.body)
        self.assertRegex(answer.json["detail"], "vcpus.*memory_mib")
        self.assertTrue(answer.json["retryable"])

    def test_lease_and_delete_a_thousand_times(self):
        descriptors = self.daemon.descriptors()
        statuses = {}

        def race(number):
            while (answer := self.post(self.body(), f"race-{number}" if number % 2 else None)).status == 507:
                time.sleep(0.01)  # those before it are still ending
            self.assertEqual(202, answer.status, answer.body)
            path = answer.headers["Location"]
            if number % 3 == 0:
                time.sleep(random.random() * 0.03)
            for _ in range(1 + number % 2):  # some twice
                answer = self.client.request("DELETE", path, timeout=60)
                self.assertIn(answer.status, (200, 202), answer.body)
            statuses[answer.json["state"]] = statuses.get(answer.json["state"], 0) + 1

        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(race, range(RACES)))
        wait_for(lambda: not self.living(), 60, "every lease has ended", every=0.1)
        self.assert_nothing_of_machines()
        wait_for(lambda: self.daemon.descriptors() <= descriptors, 20, "as many descriptors as before")
        reasons = {}
        for record in self.client.items("/v1/terminations?limit=200"):
            reasons[record["reason"]] = reasons.get(record["reason"], 0) + 1
        self.assertEqual({"released"}, set(reasons), reasons)
        self.assertGreaterEqual(reasons["released"], RACES)
        # A process that was killed needs a processor to end, and a busy machine may give it none for seconds.
        self.assertEqual([], [line for line in self.daemon.log().splitlines()
                              if "level=error" in line and "event=machine.does_not_die" not in line])


class TimeLimits(FakeMachines):
    """Ends, warnings, renewals, heartbeats."""

    def test_a_lease_is_warned_of_its_end(self):
        lease = self.made(ttl_s=5)  # warned half a second before; what is past both is not
        self.assertIsNotNone(lease["expires_at"])
        self.assertEqual("lease_expired", self.ended(lease["id"])["termination"]["reason"])
        warnings = self.events(lease["id"], "lease.expiring")
        self.assertEqual([{"ttl_s": 5, "expires_at": lease["expires_at"]}], warnings)

    def test_a_renewal_moves_the_end(self):
        lease = self.made(ttl_s=3)
        path = f"/v1/leases/{lease['id']}/renewals"
        answer = self.client.request("POST", path, {"ttl_s": 600})
        self.assertEqual((201, 600), (answer.status, answer.json["ttl_s"]), answer.body)
        self.assertGreater(answer.json["expires_at"], lease["expires_at"])
        self.assertEqual(f'"{answer.json["generation"]}"', answer.headers["ETag"])
        self.assertEqual([{"ttl_s": 600, "expires_at": answer.json["expires_at"]}],
                         self.events(lease["id"], "lease.renewed"))
        time.sleep(3.5)
        self.assertIsNone(self.client.get(f"/v1/leases/{lease['id']}")["termination"])
        self.assertEqual(201, self.client.request("POST", path, {"ttl_s": 1}).status)
        self.assertEqual("lease_expired", self.ended(lease["id"])["termination"]["reason"])
        late = self.client.request("POST", path, {"ttl_s": 600})
        self.assertEqual((409, "lease-ended"), (late.status, late.slug))

    def test_bad_renewals(self):
        path = f"/v1/leases/{self.made()['id']}/renewals"
        for body, pointer in (({}, "/ttl_s"), ({"ttl_s": 0}, "/ttl_s"), ({"ttl_s": 2678401}, "/ttl_s"),
                              ({"ttl_s": "1"}, "/ttl_s"), ({"ttl_s": 1.5}, "/ttl_s"), ({"ttl_s": 9, "x": 1}, "/x")):
            with self.subTest(body):
                answer = self.client.request("POST", path, body)
                self.assertEqual((422, [pointer]), (answer.status, answer.pointers), answer.body)
        self.assertEqual(400, self.client.request("POST", path, b"{").status)
        self.assertEqual(415, self.client.request("POST", path, b"{}", {"Content-Type": "text/plain"}).status)
        nobody = "/v1/leases/018f0000-0000-7000-8000-000000000000"
        self.assertEqual(404, self.client.request("POST", nobody + "/renewals", {"ttl_s": 9}).status)
        self.assertEqual(404, self.client.request("PUT", nobody + "/heartbeat").status)
        for tail, allowed in (("renewals", "POST, OPTIONS"), ("heartbeat", "PUT, OPTIONS")):
            answer = self.client.request("OPTIONS", f"{nobody}/{tail}")
            self.assertEqual((204, allowed), (answer.status, answer.headers["Allow"]))
            self.assertEqual(405, self.client.request("GET", f"{nobody}/{tail}").status)
            self.assertEqual(405, self.client.request("HEAD", f"{nobody}/{tail}").status)

    def test_a_lease_lives_while_its_heart_beats(self):
        lease = self.made(heartbeat_timeout_s=3)
        self.assertEqual(3, lease["heartbeat_timeout_s"])
        path = f"/v1/leases/{lease['id']}/heartbeat"
        for _ in range(8):
            answer = self.client.request("PUT", path)
            self.assertEqual((204, b""), (answer.status, answer.body))
            time.sleep(0.5)
        self.assertIsNone(self.client.get(f"/v1/leases/{lease['id']}")["termination"])
        stale = self.client.request("PUT", path, headers={"If-Match": '"0"'})
        self.assertEqual((412, "precondition-failed"), (stale.status, stale.slug))
        self.assertEqual(400, self.client.request("PUT", path, {}).status, "it takes no body")
        end = self.ended(lease["id"])["termination"]
        self.assertEqual(("heartbeat_lost", "provider"), (end["reason"], end["initiated_by"]))
        late = self.client.request("PUT", path)
        self.assertEqual((409, "lease-ended"), (late.status, late.slug))
        calm = self.client.request("PUT", f"/v1/leases/{self.made()['id']}/heartbeat")
        self.assertEqual((409, "heartbeat-not-watched"), (calm.status, calm.slug))

    def test_heartbeats_write_nothing(self):
        path = f"/v1/leases/{self.made(heartbeat_timeout_s=60)['id']}/heartbeat"
        wait_for(lambda: self.client.get(path.rpartition("/")[0])["state"] == "running", 20, "it runs")

        def written():
            return [(file.name, file.stat().st_size, file.stat().st_mtime_ns)
                    for file in sorted(self.daemon.data.glob("omertad.db*")) if not file.name.endswith("-shm")]
        before = written()
        for _ in range(100):
            self.assertEqual(204, self.client.request("PUT", path).status)
        self.assertEqual(before, written())

    def test_the_end_comes_while_no_daemon_is_there(self):
        short, long = self.made(ttl_s=2), self.made(ttl_s=600)
        self.daemon.stop(signal.SIGKILL)
        time.sleep(2.5)
        self.daemon.start()
        self.assertEqual("lease_expired", self.ended(short["id"])["termination"]["reason"])
        later = self.client.get(f"/v1/leases/{long['id']}")["termination"]
        self.assertNotEqual("lease_expired", (later or {}).get("reason"))


class Lists(FakeMachines):
    """Labels, filters, pages."""

    def ids(self, query):
        """Ids of all pages."""
        return [lease["id"] for lease in self.client.items(f"/v1/leases?{query}")]

    def test_filters_and_pages_that_stay_in_order_while_leases_come(self):
        red = [self.made(labels={"team": "red", "example.org/job": f"n{number}"})["id"] for number in range(4)]
        blue = [self.made(labels={"team": "blue"})["id"] for _ in range(3)]
        self.assertEqual(red, self.ids("label=team:red"))
        self.assertEqual(list(reversed(red)), self.ids("label=team:red&order=newest&limit=1"))
        self.assertEqual(red[2:3], self.ids("label=example.org/job:n2"))
        self.assertEqual([], self.ids("label=team:green"))
        self.assertEqual([], self.ids("label=team:red&mode=direct"))
        first = self.client.get("/v1/leases?label=team:blue&limit=2")
        blue.append(self.made(labels={"team": "blue"})["id"])
        self.client.request("DELETE", f"/v1/leases/{blue[1]}")  # the cursor's own
        self.ended(blue[1])
        rest = self.client.get(f"/v1/leases?label=team:blue&after={first['next_cursor']}")
        self.assertEqual(blue, [lease["id"] for lease in first["items"] + rest["items"]])
        self.assertEqual([blue[1]], self.ids("label=team:blue&state=terminated"))
        self.assertEqual(1, len([record for record in self.client.items("/v1/terminations?limit=1")
                                 if record["lease_id"] == blue[1]]))

    def test_bad_queries_are_named(self):
        for query, pointer in (("limit=0", "/limit"), ("limit=x", "/limit"), ("after=x", "/after"),
                               ("order=up", "/order"), ("state=odd", "/state"), ("mode=odd", "/mode"),
                               ("label=a", "/label"), ("label=:b", "/label"), ("label=a:b:c", "/label"),
                               ("label=-a:b", "/label"), ("colour=blue", "/colour")):
            with self.subTest(query):
                answer = self.client.request("GET", f"/v1/leases?{query}")
                self.assertEqual((400, "query-invalid", [pointer]), (answer.status, answer.slug, answer.pointers))
        gone = self.client.request("GET", "/v1/leases?after=018f0000-0000-7000-8000-000000000000")
        self.assertEqual((410, "cursor-unknown"), (gone.status, gone.slug))
        self.assertEqual(400, self.client.request("GET", "/v1/leases?label=a:b&label=c:d").status)

    def test_bad_labels_are_named(self):
        for labels, pointer in (({"-a": "b"}, "/labels/-a"), ({"a": "b c"}, "/labels/a"), ({"a": 1}, "/labels/a"),
                                ({"a/b/c": "d"}, "/labels/a~1b~1c"), ({"k" * 64: "v"}, "/labels/" + "k" * 64),
                                ({"a": "v" * 64}, "/labels/a"), ({f"k{n}": "" for n in range(17)}, "/labels")):
            with self.subTest(labels):
                answer = self.post(self.body(labels=labels))
                self.assertEqual(422, answer.status)
                self.assertIn(pointer, answer.pointers, answer.body)

    def test_a_change_with_an_old_etag_is_refused(self):
        lease = self.made()
        path = f"/v1/leases/{lease['id']}"
        wait_for(lambda: self.client.get(path)["state"] == "running", 20, "it runs")
        for tag in ('"1"', 'W/"1"', "1", '"x"'):
            answer = self.client.request("DELETE", path, headers={"If-Match": tag})
            self.assertEqual((412, "precondition-failed"), (answer.status, answer.slug), tag)
        etag = self.client.request("GET", path).headers["ETag"]
        self.assertEqual(304, self.client.request("GET", path, headers={"If-None-Match": f'"0", W/{etag}'}).status)
        self.assertEqual(202, self.client.request("DELETE", path, headers={"If-Match": f'"0", {etag}'}).status)
