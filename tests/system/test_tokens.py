"""`omertad token`: made and revoked while the daemon runs, and each allows what its scope says."""

import json
import socket

from case import DaemonCase, wait_for
from sse import Follower

REFUSED = {"read": {"lease", "admin"}, "lease": {"admin"}, "admin": set()}


class Tokens(DaemonCase):
    """Tokens of one installation; the names differ from test to test."""

    def token(self, *arguments):
        """`omertad token`. Return: subprocess.CompletedProcess"""
        return self.daemon.run("token", *arguments, "--config", self.daemon.config_file)

    def add(self, name, scope):
        """Make one. Return: its text"""
        done = self.token("add", name, "--scope", scope)
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        return done.stdout.strip()

    def ask(self, token, method, path, body=None, headers=None):
        """A request over TCP with this token. Return: the answer"""
        client = self.daemon.tcp_client({"Authorization": f"Bearer {token}", **(headers or {})})
        return client.request(method, path, body)

    def test_each_scope_allows_what_it_says(self):
        for scope, refused in REFUSED.items():
            token = self.add(f"scope-{scope}", scope)
            self.assertEqual(200, self.ask(token, "GET", "/v1/leases").status)
            for need, answer in (("lease", self.ask(token, "POST", "/v1/leases", {})),
                                 ("admin", self.ask(token, "PUT", "/v1/node/drain", {"draining": False},
                                                    {"If-Match": "*"}))):
                with self.subTest(f"{scope} asks for {need}"):
                    if need in refused:
                        self.assertEqual((403, "insufficient-scope"), (answer.status, answer.slug))
                        self.assertIn(f'scope="{need}"', answer.headers["WWW-Authenticate"])
                    else:
                        self.assertIn(answer.status, (200, 422))

    def test_a_revoked_token_stops_at_once(self):
        token = self.add("gone", "read")
        self.assertEqual(200, self.ask(token, "GET", "/v1/node").status)
        stream = self.follow(token)
        self.assertEqual(200, stream.status)
        stream.frames(1)
        self.assertEqual(0, self.token("revoke", "gone").returncode)
        self.assertEqual(401, self.ask(token, "GET", "/v1/node").status)
        self.client.request("PUT", "/v1/node/drain", {"draining": True}, {"If-Match": "*"})
        self.client.request("PUT", "/v1/node/drain", {"draining": False}, {"If-Match": "*"})
        self.assertEqual([], stream.frames(limit=20))
        self.assertTrue(stream.ended)
        wait_for(lambda: "event=stream.dropped reason=token" in self.daemon.log(), 20, "a line about it")

    def follow(self, token):
        """A stream over TCP."""
        def opener():
            handle = self.lab.prov.socket(socket.AF_INET, socket.SOCK_STREAM)
            handle.connect(("127.0.0.1", self.daemon.port))
            return handle
        follower = Follower(opener, "/v1/events?after=latest", {"Host": f"127.0.0.1:{self.daemon.port}",
                                                                "Authorization": f"Bearer {token}"})
        self.addCleanup(follower.close)
        return follower

    def test_the_list_shows_names_and_no_secret(self):
        token = self.add("listed", "lease")
        listed = json.loads(self.token("list", "--json").stdout)
        mine = [entry for entry in listed if entry["name"] == "listed"]
        self.assertEqual([("lease", None)], [(entry["scope"], entry["revoked_at"]) for entry in mine])
        self.assertEqual("first", listed[0]["name"])
        plain = self.token("list").stdout
        self.assertRegex(plain, r"(?m)^listed +lease +20\S+Z  good$")
        for text in (plain, json.dumps(listed), (self.daemon.data / "tokens.json").read_text(encoding="ascii"),
                     self.daemon.log()):
            self.assertNotIn(token, text)
        self.assertEqual(0o600, (self.daemon.data / "tokens.json").stat().st_mode & 0o777)

    def test_wrong_command_lines_are_told(self):
        for arguments, code in ((("add", "x"), 2), (("add", "x", "--scope", "all"), 2), (("add", "X", "--scope", "read"), 1),
                                (("revoke", "nobody"), 1), (("revoke",), 2), ((), 2), (("list", "x"), 2)):
            with self.subTest(arguments):
                done = self.token(*arguments)
                self.assertEqual(code, done.returncode)
                self.assertTrue(done.stderr)
                self.assertEqual("", done.stdout)
        self.add("twice", "read")
        self.assertEqual(1, self.token("add", "twice", "--scope", "read").returncode)

    def test_tokens_survive_a_restart(self):
        token = self.add("kept", "read")
        gone = self.add("not-kept", "read")
        self.token("revoke", "not-kept")
        self.daemon.stop()
        offline = self.add("offline", "read")  # no daemon is needed
        self.daemon.start()
        self.assertEqual([200, 401, 200],
                         [self.ask(one, "GET", "/v1/node").status for one in (token, gone, offline)])
