#!/usr/bin/env python3
"""A client that behaves badly, in a process of its own: abuse_load.py KIND TARGET NUMBER [TOKEN]

TARGET is a port of 127.0.0.1 or the path of a unix socket. Prints `ready` once NUMBER connections have been made, then goes
on with what KIND does until its standard input ends. A connection that the service closes is opened anew, at a bounded pace,
so the number stays what it is.
"""

import errno
import resource
import select
import socket
import sys
import time

PACE = 2000  # new connections in a second once all have been made

HALF = b"GET /v1/node HTTP/1.1\r\nHost: 127.0.0.1"
LARGE = b"GET /openapi.yaml HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n"
GUESS = b"GET /v1/node HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer omt_guess\r\n\r\n"
BODY = (b"POST /v1/leases HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"
        b"Content-Length: 1000\r\n\r\n{")

# What is sent at once, and one byte of what is sent further every now and then.
KINDS = {
    "silent": (b"", b""),
    "half": (HALF, b""),  # half of a head, and no more
    "drip": (HALF, b"x"),  # a byte at a time
    "guess": (GUESS, b""),  # a wrong token, and the answer is read
    "slow_read": (LARGE * 8, b""),  # pipelined, and the answers are not read
    "slow_write": (BODY, b" "),  # a body that never ends
}


class Load:
    """All connections of one kind."""

    def __init__(self, kind, target, number, token):
        host = f"127.0.0.1:{target}".encode() if target.isdigit() else b"localhost"
        first, self._more = KINDS[kind]
        holes = first.count(b"%s")
        self._first = first % ((host, token.encode()) * holes)[:holes] if holes else first
        self._reads = kind != "slow_read"
        self._target, self._number = target, number
        self._sockets = {}
        self._poll = select.epoll()

    def _open(self):
        is_tcp = self._target.isdigit()
        handle = socket.socket(socket.AF_INET if is_tcp else socket.AF_UNIX, socket.SOCK_STREAM)
        handle.setblocking(False)
        if not self._reads:
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        code = handle.connect_ex(("127.0.0.1", int(self._target)) if is_tcp else self._target)
        if code not in (0, errno.EINPROGRESS):
            handle.close()  # EAGAIN: the queue of the unix socket is full for the moment
            return
        self._sockets[handle.fileno()] = handle
        # Edge-triggered: writable once, readable or closed as it happens.
        self._poll.register(handle, select.EPOLLOUT | select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)

    def _close(self, number):
        self._poll.unregister(number)
        self._sockets.pop(number).close()

    def _serve(self, number, events):
        handle = self._sockets.get(number)
        if handle is None:
            return
        try:
            if events & select.EPOLLOUT and self._first:
                handle.send(self._first)
                self._poll.modify(number, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)
            if events & (select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP):
                self._close(number)
            elif events & select.EPOLLIN and self._reads and not handle.recv(65536):
                self._close(number)
        except OSError:
            self._close(number)

    def _drip(self):
        for number in list(self._sockets)[:1000]:
            try:
                self._sockets[number].send(self._more)
            except OSError:
                self._close(number)

    def run(self):
        """Make the connections, say so, keep them until standard input ends."""
        made = 0
        while made < self._number:
            for _ in range(min(200, self._number - made)):
                self._open()
                made += 1
            for number, events in self._poll.poll(0):
                self._serve(number, events)
        print("ready", flush=True)
        dripped = time.monotonic()
        while not select.select([sys.stdin], [], [], 0)[0]:
            for number, events in self._poll.poll(0.05):
                self._serve(number, events)
            for _ in range(min(self._number - len(self._sockets), PACE // 20)):
                self._open()
            if self._more and time.monotonic() - dripped > 0.2:
                dripped = time.monotonic()
                self._drip()


def main():
    """Run what the command line asks for."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    kind, target, number = sys.argv[1:4]
    Load(kind, target, int(number), sys.argv[4] if len(sys.argv) > 4 else "").run()


if __name__ == "__main__":
    main()
