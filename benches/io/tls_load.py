"""The load of the TLS rows: `python -m benches.io.tls_load CERTIFICATE ADDRESS CONNECTIONS SIZE`.

Asked and answering as `crates/core/examples/load.rs`. It is Python, because what costs is OpenSSL's work, and Python's
has the same OpenSSL as the servers.
"""

from __future__ import annotations

import contextlib
import select
import ssl
import sys
import time

from ..servers import connect

#: Seconds after which a server that says nothing has failed.
PATIENCE = 5


class Connection:
    def __init__(self, port: int, context: ssl.SSLContext, message: bytes) -> None:
        self.socket = context.wrap_socket(connect(port), server_hostname="localhost")
        self.socket.setblocking(False)
        self._message = message
        self._rest = memoryview(b"")
        self._room = bytearray(len(message))
        self._free = memoryview(self._room)[:0]

    def begin(self) -> None:
        self._rest = memoryview(self._message)
        self._free = memoryview(self._room)
        self._send()

    @property
    def sends(self) -> bool:
        """Whether there is something left to send."""
        return len(self._rest) > 0

    def go_on(self) -> bool:
        """Sends and receives what it can. Returns whether the message is back."""
        if self._rest:
            self._send()
        with contextlib.suppress(ssl.SSLWantReadError):
            while self._free:
                count = self.socket.recv_into(self._free)
                if not count:
                    raise EOFError("the server has closed a connection")
                self._free = self._free[count:]
        if self._free:
            return False
        if self._room != self._message:
            raise ValueError("the answer isn't what was sent")
        return True

    def _send(self) -> None:
        with contextlib.suppress(ssl.SSLWantWriteError, ssl.SSLWantReadError):
            while self._rest:
                self._rest = self._rest[self.socket.send(self._rest) :]


class Load:
    def __init__(self, certificate: str, address: str, connections: int, size: int) -> None:
        context = ssl.create_default_context(cafile=certificate)
        port = int(address.rpartition(":")[2])
        message = bytes(index % 251 for index in range(size))
        self._connections = {}
        self._epoll = select.epoll()
        for _ in range(connections):
            connection = Connection(port, context, message)
            self._connections[connection.socket.fileno()] = connection
            self._epoll.register(connection.socket, select.EPOLLIN)

    def make(self, requests: int) -> None:
        """Makes so many requests, and returns when the last is answered."""
        idle = list(self._connections)
        running: set[int] = set()
        sending: set[int] = set()
        while True:
            while requests and idle:
                requests -= 1
                fd = idle.pop()
                running.add(fd)
                connection = self._connections[fd]
                connection.begin()
                if connection.sends:
                    sending.add(fd)
                    self._epoll.modify(fd, select.EPOLLIN | select.EPOLLOUT)
            if not running:
                return
            ready = self._epoll.poll(PATIENCE)
            if not ready:
                raise TimeoutError("the server doesn't answer")
            for fd, _ in ready:
                if fd not in running:
                    continue  # a session ticket, which is read with the next answer
                connection = self._connections[fd]
                if connection.go_on():
                    running.discard(fd)
                    idle.append(fd)
                if fd in sending and not connection.sends:
                    sending.discard(fd)
                    self._epoll.modify(fd, select.EPOLLIN)


def main(certificate: str, address: str, connections: str, size: str) -> None:
    load = Load(certificate, address, int(connections), int(size))
    for line in sys.stdin:
        began = time.perf_counter()
        load.make(int(line))
        print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
