"""A client of server-sent events that sees what a careful one would: every frame, and the end."""

import json
import select
import socket
import time
from typing import NamedTuple


class Frame(NamedTuple):
    """One frame of a stream."""

    id: str
    event: str
    data: dict
    at: float  # monotonic


class Follower:
    """One open stream. Reads only when asked, so that a test decides how slow it is."""

    def __init__(self, opener, path="/v1/events", headers=None, timeout=10.0):
        self.socket = opener()
        self.socket.settimeout(timeout)
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in {
            "Host": "localhost", "Accept": "text/event-stream", **(headers or {})}.items())]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self._pending = b""
        self.ended = False
        self.comments = 0
        head = self._until(b"\r\n\r\n")
        self.head = head.decode()
        self.status = int(self.head.split()[1]) if head else 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Hang up."""
        self.socket.close()

    def fileno(self):
        """For select."""
        return self.socket.fileno()

    def _more(self):
        """Read once. Return: whether the stream goes on"""
        try:
            got = self.socket.recv(65536)
        except ConnectionResetError:
            got = b""
        self._pending += got
        self.ended = not got
        return not self.ended

    def _until(self, mark):
        while mark not in self._pending:
            if not self._more():
                return b""
        found, _, self._pending = self._pending.partition(mark)
        return found

    def frames(self, count=None, limit=10.0, until=None):
        """Frames until there are @count of them, one fulfils @until, the end, or @limit seconds are over."""
        found, deadline = [], time.monotonic() + limit
        while count is None or len(found) < count:
            if b"\n\n" not in self._pending:
                left = deadline - time.monotonic()
                if self.ended or left <= 0 or not select.select([self.socket], [], [], left)[0]:
                    break
                self._more()
                continue
            text, _, self._pending = self._pending.partition(b"\n\n")
            if text.startswith(b":"):
                self.comments += 1
                continue
            fields = dict(line.split(": ", 1) for line in text.decode().split("\n"))
            found.append(Frame(fields["id"], fields["event"], json.loads(fields["data"]), time.monotonic()))
            if until and until(found[-1]):
                break
        return found


def unix_opener(path):
    """A function that connects to a unix socket."""
    def opener():
        handle = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        handle.connect(str(path))
        return handle
    return opener
