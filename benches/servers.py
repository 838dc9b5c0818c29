"""The servers that are called, each a process of its own: `python -m benches.servers echo` or `http`.

It prints its port, and ends when its input does: it can't outlive the process that started it.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: Seconds that the HTTP server takes for an answer.
LATENCY = 0.02

#: Bytes of its answers.
BODY = b"x" * 1000


@contextmanager
def server(kind: str) -> Iterator[int]:
    """Starts one and gives its port."""
    command = [sys.executable, "-m", "benches.servers", kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()


def connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def allow_many_connections() -> None:
    """Raises this process's limit of open files as far as it goes."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def echo() -> None:
    """A blocking thread for each connection: nothing answers sooner."""

    def answer(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            while data := connection.recv(1024):
                connection.sendall(data)

    def accept() -> None:
        while True:
            threading.Thread(target=answer, args=[listening.accept()[0]], daemon=True).start()

    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    threading.Thread(target=accept, daemon=True).start()
    print(listening.getsockname()[1], flush=True)
    sys.stdin.read()


def http() -> None:
    import uvloop
    from aiohttp import web

    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(LATENCY)
        return web.Response(body=BODY)

    async def main() -> None:
        application = web.Application()
        application.router.add_get("/", answer)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=2048).start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await runner.cleanup()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as running:
        running.run(main())


if __name__ == "__main__":
    allow_many_connections()
    {"echo": echo, "http": http}[sys.argv[1]]()
