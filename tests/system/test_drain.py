"""Taking a machine out of service: what is there goes on, nothing new comes, and a restart forgets nothing."""

import statistics
import threading

from case import DaemonCase, wait_for
from sse import Follower, unix_opener

PATH = "/v1/node/drain"


class Drain(DaemonCase):
    """Each test ends with a machine that is in service."""

    def setUp(self):
        self.addCleanup(self.put, False, "*")

    def put(self, draining, if_match):
        """PUT. Return: the answer"""
        return self.client.request("PUT", PATH, {"draining": draining}, {"If-Match": if_match})

    def test_a_drained_machine_keeps_what_it_has_and_takes_no_more(self):
        lease = self.lease()
        self.assertEqual(200, self.put(True, "*").status)
        answer = self.client.request("POST", "/v1/leases", self.lab.request(self.lab.consumer(1)))
        self.assertEqual((503, "draining"), (answer.status, answer.slug))
        self.assertEqual("60", answer.headers["Retry-After"])
        self.assertTrue(answer.json["retryable"])
        tried = self.client.request("POST", "/v1/leases?dry_run=true", self.lab.request(self.lab.consumer(1)))
        self.assertEqual((503, "draining", "60"), (tried.status, tried.slug, tried.headers["Retry-After"]))
        self.assertNotIn(lease.read()["state"], ("stopping", "terminated"))
        ready = self.client.request("GET", "/readyz")
        self.assertEqual((503, ["/drain"]), (ready.status, ready.pointers))
        self.assertTrue(self.client.get("/v1/node")["drain"]["draining"])
        self.assertEqual(200, self.put(False, "*").status)
        self.assertEqual(200, self.client.request("GET", "/readyz").status)
        self.lease(1)

    def test_it_survives_a_restart(self):
        self.put(True, "*")
        before = self.client.get(PATH)
        self.daemon.stop()
        self.daemon.start(wait=False)
        wait_for(self.daemon.socket.exists, 10, "the socket")
        wait_for(self.answers, 10, "an answer")
        self.assertEqual(before, self.client.get(PATH))

    def answers(self):
        """Whether the daemon answers at all."""
        try:
            return self.client.request("GET", "/healthz").status == 200
        except OSError:
            return False

    def test_a_change_needs_the_present_generation(self):
        answer = self.client.request("GET", PATH)
        etag = answer.headers["ETag"]
        self.assertEqual(f'"{answer.json["generation"]}"', etag)
        missing = self.client.request("PUT", PATH, {"draining": True})
        self.assertEqual((428, "precondition-required"), (missing.status, missing.slug))
        changed = self.put(True, etag)
        self.assertEqual(200, changed.status)
        self.assertNotEqual(etag, changed.headers["ETag"])
        stale = self.put(False, etag)
        self.assertEqual((412, "precondition-failed", changed.headers["ETag"]),
                         (stale.status, stale.slug, stale.headers["ETag"]))
        self.assertEqual(304, self.client.request("GET", PATH, headers={"If-None-Match": changed.headers["ETag"]}).status)
        for body, pointer in (({}, "/draining"), ({"draining": 1}, "/draining"), ({"draining": True, "x": 1}, "/x")):
            wrong = self.client.request("PUT", PATH, body, {"If-Match": "*"})
            self.assertEqual((422, [pointer]), (wrong.status, wrong.pointers))

    def test_of_many_that_change_at_once_one_does(self):
        etag = self.client.request("GET", PATH).headers["ETag"]
        statuses = []
        threads = [threading.Thread(target=lambda: statuses.append(self.put(True, etag).status)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([200] + [412] * 19, sorted(statuses))

    def test_events_arrive_as_they_happen(self):
        follower = Follower(unix_opener(self.daemon.socket), "/v1/events?after=latest")
        self.addCleanup(follower.close)
        follower.frames(1)
        waits = []
        for number in range(40):
            self.put(number % 2 == 0, "*")
            frame = follower.frames(1)[0]
            self.assertEqual(("node.drain_changed", number % 2 == 0), (frame.event, frame.data["data"]["draining"]))
            at = frame.data["at"]
            waits.append(frame.at)
            self.assertRegex(at, "Z$")
        gaps = [later - earlier for earlier, later in zip(waits, waits[1:])]
        print(f"      one change and its event: p50 {statistics.median(gaps) * 1000:.1f} ms", flush=True)
        self.assertLess(statistics.median(gaps), 1)
