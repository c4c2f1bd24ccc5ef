"""Bad requests: each is answered with a problem that names the fault, and leaves no lease, file, process or row."""

import copy
import re
import socket

from case import DaemonCase
from lab import LAN_PROVIDER, PROVIDER

KEY = "A" * 43 + "="


def changed(body, pointer, value):
    """@body with the member at a JSON pointer set, or removed for None."""
    body = copy.deepcopy(body)
    *path, last = pointer.strip("/").split("/")
    target = body
    for name in path:
        target = target[int(name)] if isinstance(target, list) else target.setdefault(name, {})
    if value is None:
        del target[last]
    elif isinstance(target, list):
        target[int(last)] = value
    else:
        target[last] = value
    return body


class BadRequests(DaemonCase):
    """No test here leases anything."""

    settings = {"capacity": {"leases": 2, "vcpus": 2, "memoryMib": 512, "diskMib": 1024}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.good = cls.lab.request(cls.lab.consumer(0))

    def setUp(self):
        self.descriptors = self.daemon.descriptors()

    def tearDown(self):
        self.assertEqual([], self.client.items("/v1/leases"))
        self.assertEqual([], [event for event in self.client.items("/v1/events") if event.get("lease_id")])
        self.assert_nothing_left(self.descriptors)

    def refused(self, body, status, slug, pointer=None, headers=None):
        """POST /v1/leases is refused so. Return: the answer"""
        answer = self.client.request("POST", "/v1/leases", body, headers)
        self.assertEqual((status, slug), (answer.status, answer.slug), answer.body)
        if pointer is not None:
            self.assertIn(pointer, answer.pointers, answer.body)
        return answer

    def test_the_body_must_be_json(self):
        for body in (b"", b"{", b"{]", b"nonsense", b'{"image": "micro",}'):
            with self.subTest(body):
                answer = self.client.request("POST", "/v1/leases", body, {"Content-Type": "application/json"})
                self.assertIn(answer.status, (400, 422))

    def test_a_wrong_value_is_named_by_its_pointer(self):
        for pointer, value in (
                ("/image", "../etc"), ("/image", "Micro"), ("/image", ""), ("/image", 7), ("/image", None),
                ("/resources/vcpus", 0), ("/resources/vcpus", -1), ("/resources/vcpus", 1.5), ("/resources/vcpus", "1"),
                ("/resources/memory_mib", 1), ("/resources/memory_mib", 10**12),
                ("/consumer/public_key", "short"), ("/consumer/public_key", KEY), ("/consumer/public_key", None),
                ("/consumer/public_key", "!" * 44), ("/consumer/endpoint", "198.51.100.2"),
                ("/consumer/endpoint", "198.51.100.2:0"), ("/consumer/endpoint", "198.51.100.2:65536"),
                ("/consumer/endpoint", "example.com:51900"), ("/consumer/endpoint", "198.51.100.02:51900"),
                ("/consumer/tunnel_ip", "10.77.0.1/24; reboot"), ("/vm/tunnel_ip", "10.77.0.999"),
                ("/vm/tunnel_ip", self.good["consumer"]["tunnel_ip"]),
                ("/ssh/authorized_keys/0", "command=\"x\" ssh-ed25519 AAAA"), ("/ssh/authorized_keys/0", "a\nb"),
                ("/ssh/authorized_keys/0", "ssh-ed25519 !!!"), ("/ssh/user", "root; reboot"), ("/ssh/user", "a" * 40),
                ("/ttl_s", 0), ("/ttl_s", -5), ("/ttl_s", 10**15)):
            with self.subTest(f"{pointer} = {value!r}"):
                answer = self.client.request("POST", "/v1/leases", changed(self.good, pointer, value))
                self.assertEqual(422, answer.status, answer.body)
                self.assertTrue(any((found or "").startswith(pointer) for found in answer.pointers), answer.body)

    def test_an_unknown_member_is_named(self):
        for parent in ("", "/consumer", "/network", "/resources", "/vm", "/ssh"):
            pointer = f"{parent}/colour"
            with self.subTest(pointer):
                self.refused(changed(self.good, pointer, 1), 422, "validation-failed", pointer)

    def test_a_member_that_stands_twice(self):
        self.refused(b'{"image": "micro", "image": "micro"}', 422, "validation-failed", "/image")

    def test_odd_bytes_and_depth(self):
        for body in (b'{"image": "mic\\u0000ro"}', b'{"image": "\xff\xfe"}', b"[" * 40 + b"]" * 40,
                     b'{"image": 1e999}'):
            with self.subTest(body):
                answer = self.client.request("POST", "/v1/leases", body)
                self.assertIn(answer.status, (400, 422), answer.body)

    def test_a_forbidden_endpoint(self):
        for ip in ("127.0.0.1", "127.9.9.9", "0.0.0.0", PROVIDER, LAN_PROVIDER, "224.0.0.1", "239.1.2.3",
                   "255.255.255.255", "169.254.169.254", "169.254.1.1", "240.0.0.1", "192.168.77.50", "10.0.0.1",
                   "172.16.0.1", "100.64.0.1"):
            with self.subTest(ip):
                self.refused(changed(self.good, "/consumer/endpoint", f"{ip}:51900"), 422, "endpoint-forbidden",
                             "/consumer/endpoint")

    def test_a_mode_that_is_not_offered(self):
        for mode in ("direct", "sampled", "conntrack"):
            with self.subTest(mode):
                self.refused(changed(self.good, "/network/mode", mode), 422, "mode-not-allowed", "/network/mode")
        self.refused(changed(self.good, "/network/mode", "open"), 422, "validation-failed", "/network/mode")

    def test_an_image_that_is_not_there(self):
        self.refused(changed(self.good, "/image", "absent"), 422, "image-not-found", "/image")

    def test_more_than_the_machine_has(self):
        for pointer, value in (("/resources/memory_mib", 513), ("/resources/vcpus", 3), ("/resources/disk_mib", 1025)):
            with self.subTest(pointer):
                self.refused(changed(self.good, pointer, value), 422, "validation-failed", pointer)

    def test_media_type_and_size(self):
        self.refused(self.good, 415, "unsupported-media-type", headers={"Content-Type": "text/plain"})
        self.refused(b"{}", 415, "unsupported-media-type", headers={"Content-Type": None})
        self.refused(b'{"image": "' + b"x" * 300000 + b'"}', 413, "body-too-large")

    def test_paths_and_methods(self):
        for method, path, status in (
                ("GET", "/v1/nothing", 404), ("GET", "/", 200), ("GET", "/v1/leases/not-an-id", 404),
                ("GET", "/v1/leases/018f0000-0000-7000-8000-000000000000", 404),
                ("DELETE", "/v1/leases/018f0000-0000-7000-8000-000000000000", 404),
                ("GET", "/../../etc/passwd", 404), ("GET", "/v1/leases/%2e%2e/node", 404),
                ("PUT", "/v1/leases", 405), ("DELETE", "/v1/node", 405), ("GET", "/healthz", 200),
                ("HEAD", "/healthz", 200), ("GET", "/openapi.yaml", 200),
                ("GET", "/v1/problems/validation-failed", 200),
                ("GET", "/v1/problems/none", 404), ("GET", "/v1/leases?limit=0", 400),
                ("GET", "/v1/leases?limit=201", 400), ("GET", "/v1/leases?colour=blue", 400)):
            with self.subTest(f"{method} {path}"):
                answer = self.client.request(method, path)
                self.assertEqual(status, answer.status, answer.body)

    def test_images_are_listed_and_verified(self):
        image = self.client.items("/v1/images")[0]
        self.assertEqual("micro", image["name"])
        answer = self.client.request("POST", "/v1/images/micro/verifications")
        self.assertEqual(200, answer.status, answer.body)

    def test_half_a_request_does_not_hold_the_others_up(self):
        slow = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(8)]
        try:
            for handle in slow:
                handle.connect(str(self.daemon.socket))
                handle.sendall(b"POST /v1/leases HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n")
            self.assertEqual(200, self.client.request("GET", "/healthz", timeout=8).status)
        finally:
            for handle in slow:
                handle.close()


class Room(DaemonCase):
    """A machine with room for one lease."""

    settings = {"capacity": {"leases": 4, "vcpus": 4, "memoryMib": 300, "diskMib": 1024}}

    def test_no_room_and_no_second_lease_of_the_same_peer(self):
        lease = self.lease()
        again = self.client.request("POST", "/v1/leases", self.lab.request(self.lab.consumer(0)))
        self.assertIn((again.status, again.slug), ((409, "peer-in-use"), (507, "insufficient-capacity")))
        other = self.client.request("POST", "/v1/leases", self.lab.request(self.lab.consumer(1)))
        self.assertEqual((507, "insufficient-capacity"), (other.status, other.slug), other.body)
        self.assertRegex(other.json["detail"], "memory")
        small = self.lab.request(self.lab.consumer(0), resources={"vcpus": 1, "memory_mib": 96, "disk_mib": 0})
        lease.release()
        lease.wait_end()
        self.assertEqual(1, len(self.client.items("/v1/leases")))
        self.assertEqual(202, self.client.request("POST", "/v1/leases", small).status, "there is room again")
        self.daemon.stop()


class Tcp(DaemonCase):
    """The listener on the provider's loopback: a token always, our own name always, no other site ever."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.token = (cls.daemon.data / "token").read_text(encoding="ascii").strip()

    def status(self, **headers):
        """Status of GET /v1/node with these headers."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.daemon.tcp_client(named).request("GET", "/v1/node").status

    def test_without_the_token_it_is_401(self):
        self.assertEqual(401, self.status())
        for wrong in ("Bearer", "Bearer x", f"Basic {self.token}", f"Bearer {self.token}x",
                      f"Bearer {self.token[:-1]}"):
            self.assertEqual(401, self.status(Authorization=wrong), wrong)

    def test_with_the_token_it_is_200(self):
        self.assertEqual(200, self.status(Authorization=f"Bearer {self.token}"))

    def test_another_host_is_421(self):
        port = self.daemon.port
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1:1", f"127.0.0.1.evil.example:{port}"):
            self.assertEqual(421, self.status(Authorization=f"Bearer {self.token}", Host=host), host)

    def test_another_origin_is_403(self):
        for origin in ("https://evil.example", "null", f"http://127.0.0.1:{self.daemon.port + 1}"):
            self.assertEqual(403, self.status(Authorization=f"Bearer {self.token}", Origin=origin), origin)
        self.assertEqual(200, self.status(Authorization=f"Bearer {self.token}",
                                          Origin=f"http://127.0.0.1:{self.daemon.port}"))

    def test_the_token_is_in_a_file_of_mode_0600_and_nowhere_else(self):
        self.assertEqual(0o600, (self.daemon.data / "token").stat().st_mode & 0o777)
        self.assertNotIn(self.token, self.daemon.log())
        for file in self.daemon.data.iterdir():
            if file.is_file() and file.name != "token":
                self.assertNotIn(self.token.encode(), file.read_bytes(), file.name)

    def test_it_listens_on_loopback_only(self):
        listening = [line.split()[1] for line in self.lab.prov.read("/proc/net/tcp").splitlines()[1:]
                     if line.split()[3] == "0A" and line.split()[1].endswith(f":{self.daemon.port:04X}")]
        self.assertEqual([f"0100007F:{self.daemon.port:04X}"], listening)

    def test_repeated_and_malformed_headers_are_400(self):
        kind = "Content-Type: application/json\r\n"
        for head, body in (("Host: {host}\r\n", ""), ("Content-Length: 2\r\nContent-Length: 1\r\n", "{}"),
                           ("Content-Length: -1\r\n", ""), (kind, ""), ("Authorization: Bearer x\r\n", ""),
                           ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n")):
            with self.subTest(head):
                head = f"Host: {{host}}\r\n{kind}{head}".format(host=f"127.0.0.1:{self.daemon.port}")
                self.assertRegex(self._raw(head, body), r"^(HTTP/1\.[01] 400|$)")

    def _raw(self, head, body):
        with self.lab.prov.socket(kind=socket.SOCK_STREAM) as handle:
            handle.settimeout(5)
            handle.connect(("127.0.0.1", self.daemon.port))
            start = f"POST /v1/leases HTTP/1.1\r\nAuthorization: Bearer {self.token}\r\n"
            handle.sendall(f"{start}{head}\r\n{body}".encode())
            return handle.recv(4096).decode("latin-1")

    def test_another_user_cannot_open_the_unix_socket(self):
        done = self.lab.prov.run("setpriv", "--reuid=61235", "--regid=61235", "--clear-groups", "curl", "--silent",
                                 "--unix-socket", self.daemon.socket, "http://localhost/v1/node", check=False)
        self.assertNotEqual(0, done.returncode)
        self.assertFalse(re.search("accelerator", done.stdout))

    def test_a_page_of_somebody_else_cannot_lease(self):
        headers = {"Content-Type": "text/plain", "Origin": "https://evil.example"}
        answer = self.daemon.tcp_client().request("POST", "/v1/leases", b"{}", headers)
        self.assertIn(answer.status, (401, 403, 415))
