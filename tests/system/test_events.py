"""Events as pages and as streams: nothing is missed in silence, by nobody, whatever others do."""

import os
import sqlite3

from case import DaemonCase, wait_for
from sse import Follower, unix_opener

FOLLOWERS = 200


class Events(DaemonCase):
    """One lease is made and released in each test; its machine need not get far."""

    def cycle(self):
        """Make a lease and end it. Return: its id"""
        lease = self.lease()
        lease.release()
        lease.wait_end()
        return lease.id

    def follow(self, query="", headers=None):
        """A stream over the unix socket, closed at the end of the test."""
        follower = Follower(unix_opener(self.daemon.socket), "/v1/events" + query, headers)
        self.addCleanup(follower.close)
        self.assertEqual(200, follower.status, follower.head)
        return follower

    def latest(self):
        """The cursor of the present end."""
        return self.client.get("/v1/events?after=latest")["next_cursor"]

    def test_a_stream_tells_what_the_pages_tell(self):
        before = self.latest()
        follower = self.follow("?after=latest")
        opened = follower.frames(1)[0]
        self.assertEqual(("stream.opened", before, {"cursor": before}), (opened.event, opened.id, opened.data))
        lease = self.cycle()
        told = follower.frames(until=lambda frame: frame.event == "lease.terminated")
        page = self.client.get(f"/v1/events?limit=200&after={before}")
        self.assertEqual(page["items"][:len(told)], [frame.data for frame in told])
        self.assertEqual([frame.data["id"] for frame in told], [frame.id for frame in told])
        self.assertEqual([frame.data["type"] for frame in told], [frame.event for frame in told])
        self.assertEqual({lease}, {frame.data["lease_id"] for frame in told})
        self.assertIn("text/event-stream", follower.head)

    def test_one_that_comes_again_goes_on_where_it_was(self):
        follower = self.follow("?after=latest")
        self.cycle()
        told = follower.frames(until=lambda frame: frame.event == "lease.terminated")
        follower.close()
        middle = told[len(told) // 2]
        again = self.follow("?after=latest", {"Last-Event-ID": middle.id})  # the header is the newer of the two
        rest = again.frames(until=lambda frame: frame.event == "lease.terminated")[1:]
        expected = [frame.id for frame in told if frame.data.get("sequence", 0) > middle.data["sequence"]]
        self.assertEqual(expected, [frame.id for frame in rest])

    def test_a_stream_of_one_lease(self):
        self.cycle()
        mine = self.cycle()
        self.cycle()
        follower = self.follow(f"?lease_id={mine}")
        told = follower.frames(until=lambda frame: frame.event == "lease.terminated")[1:]
        self.assertEqual([event["id"] for event in self.client.items(f"/v1/events?lease_id={mine}")],
                         [frame.id for frame in told])
        self.cycle()
        self.assertEqual([], follower.frames(limit=0.3))

    def test_a_cursor_that_would_miss_something_is_refused(self):
        epoch, _, sequence = self.latest().partition("-")
        for cursor, status, slug in ((f"{epoch}-{int(sequence) + 1}", 400, "events-ahead"),
                                     ("0123456789abcdef-1", 410, "events-epoch-changed"),
                                     ("7", 400, "query-invalid"), (f"{epoch}-x", 400, "query-invalid")):
            with self.subTest(cursor):
                answer = self.client.request("GET", f"/v1/events?after={cursor}")
                self.assertEqual((status, slug), (answer.status, answer.slug))
                stream = self.client.request("GET", f"/v1/events?after={cursor}", headers={"Accept": "text/event-stream"})
                self.assertEqual((status, slug), (stream.status, stream.slug))
        answer = self.client.request("GET", "/v1/events", headers={"Accept": "text/event-stream", "Last-Event-ID": "7"})
        self.assertEqual((400, "bad-request"), (answer.status, answer.slug))
        answer = self.client.request("GET", "/v1/events?limit=5", headers={"Accept": "text/event-stream"})
        self.assertEqual((400, "query-invalid"), (answer.status, answer.slug))
        self.assertEqual(406, self.client.request("GET", "/v1/events", headers={"Accept": "text/html"}).status)

    def test_many_followers_miss_nothing_and_leave_nothing(self):
        descriptors = self.daemon.descriptors()
        followers = [self.follow("?after=latest") for _ in range(FOLLOWERS)]
        before = followers[0].frames(1)[0].id
        self.cycle()
        expected = [event["id"] for event in self.client.get(f"/v1/events?limit=200&after={before}")["items"]]
        for follower in followers:
            told = follower.frames(until=lambda frame: frame.id == expected[-1])
            self.assertEqual(expected, [frame.id for frame in told if frame.event != "stream.opened"])
        for follower in followers:
            follower.close()
        wait_for(lambda: self.daemon.descriptors() <= descriptors, 20, "descriptors are back")

    def test_there_is_a_last_place(self):
        followers = [self.follow("?after=latest") for _ in range(256)]
        answer = self.client.request("GET", "/v1/events", headers={"Accept": "text/event-stream"})
        self.assertEqual((503, "too-many-streams"), (answer.status, answer.slug))
        self.assertTrue(answer.headers["Retry-After"])
        self.client.get("/v1/node")  # others are answered as ever
        followers.pop().close()
        wait_for(lambda: Follower(unix_opener(self.daemon.socket)).status == 200, 20, "a place is free again")


class Retention(DaemonCase):
    """What happens when the log loses its old end."""

    def test_pruned_events_are_told(self):
        first = self.client.get("/v1/events?after=latest")["next_cursor"]
        for _ in range(2):
            lease = self.lease()
            lease.release()
            lease.wait_end()
        self.daemon.stop()
        with sqlite3.connect(self.daemon.data / "omertad.db") as database:
            newest = database.execute("SELECT max(sequence) FROM events").fetchone()[0]
            database.execute("DELETE FROM events WHERE sequence < ?", (newest,))
        for path in self.daemon.data.glob("omertad.db*"):
            os.chown(path, self.lab.user.uid, self.lab.user.uid)
        self.daemon.start()
        epoch = first.partition("-")[0]
        for headers in ({}, {"Accept": "text/event-stream"}):
            answer = self.client.request("GET", f"/v1/events?after={first}", headers=headers)
            self.assertEqual((410, "events-pruned"), (answer.status, answer.slug))
            self.assertIn(f"{epoch}-{newest}", answer.json["detail"])
        self.assertEqual(newest, self.client.get("/v1/events")["items"][0]["sequence"])

    def test_a_new_database_is_a_new_epoch(self):
        before = self.client.get("/v1/events?after=latest")["next_cursor"]
        self.daemon.stop()
        for path in self.daemon.data.glob("omertad.db*"):
            path.unlink()
        self.daemon.start()
        answer = self.client.request("GET", f"/v1/events?after={before}")
        self.assertEqual((410, "events-epoch-changed"), (answer.status, answer.slug))

    def test_streams_end_with_the_daemon(self):
        follower = Follower(unix_opener(self.daemon.socket))
        self.assertEqual("stream.opened", follower.frames(1)[0].event)
        self.daemon.stop()
        follower.frames(limit=10)
        self.assertTrue(follower.ended)
        self.daemon.start()
