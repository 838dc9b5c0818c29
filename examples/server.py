"""A small file server for the other examples, made with aiohttp.

    python examples/server.py --port 8080

It prints one line, its address, as soon as it takes connections, and runs until Ctrl-C or SIGTERM.

    /files/{name}       a file; its bytes follow from its name
    /SHA256SUMS?count=  the checksums of file-0, file-1, ... as sha256sum prints them
    /stats              how many files were asked for, and how many at once at the highest
"""

import argparse
import asyncio
import hashlib
import random
import socket

from aiohttp import web
from aiohttp.typedefs import Handler


class Stats:
    """Counts the requests for files. Only the event loop's thread touches it."""

    def __init__(self) -> None:
        self.requests = 0
        self.now = 0
        self.peak = 0

    @web.middleware
    async def count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith("/files/"):
            return await handler(request)
        self.requests += 1
        self.now += 1
        self.peak = max(self.peak, self.now)
        try:
            return await handler(request)
        finally:
            # Before the answer is sent: no client can be ahead of the count.
            self.now -= 1

    async def show(self, request: web.Request) -> web.Response:
        return web.json_response({"requests": self.requests, "peak": self.peak})


def content(name: str) -> bytes:
    """Between 1 and 16 KiB, the same for the same name."""
    size = random.Random(name).randint(1024, 16 * 1024)
    return hashlib.shake_256(name.encode()).digest(size)


async def send_file(request: web.Request) -> web.Response:
    await asyncio.sleep(random.uniform(0.005, 0.02))  # a disk, a database, a network
    return web.Response(body=content(request.match_info["name"]))


async def send_checksums(request: web.Request) -> web.Response:
    names = (f"file-{number}" for number in range(int(request.query["count"])))
    return web.Response(
        text="".join(f"{hashlib.sha256(content(name)).hexdigest()}  {name}\n" for name in names)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve files made up from their names.")
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    args = parser.parse_args()

    stats = Stats()
    app = web.Application(middlewares=[stats.count])
    app.router.add_get("/files/{name}", send_file)
    app.router.add_get("/SHA256SUMS", send_checksums)
    app.router.add_get("/stats", stats.show)

    # The socket listens before the line is printed: whoever reads the line can connect.
    listener = socket.create_server(("127.0.0.1", args.port), backlog=1024)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    web.run_app(app, sock=listener, print=None, access_log=None)


if __name__ == "__main__":
    main()
