"""A small server for the other examples, made with aiohttp.

    python examples/server.py --port 8080

It prints one line, its address, as soon as it takes connections, and runs until Ctrl-C or SIGTERM.

    /files/{name}       a file; its bytes follow from its name
    /SHA256SUMS?count=  the checksums of file-0, file-1, ... as sha256sum prints them
    /stats              how many files were asked for, and how many at once at the highest
    /uploads            PUT a body here: answers with its size and checksum
    /feed               GET: lines, as they are posted. POST: a line for all readers. DELETE: their end
    /wait?seconds=      answers that much later
    /echo               a WebSocket that sends back what it gets, and is closed by the message "bye"
"""

import argparse
import asyncio
import hashlib
import random
import socket

from aiohttp import WSMsgType, web
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


class Feed:
    """Hands what is posted to everybody who is reading. Only the event loop's thread touches it."""

    def __init__(self) -> None:
        self.readers: set[asyncio.Queue[bytes | None]] = set()

    async def read(self, request: web.Request) -> web.StreamResponse:
        lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        # Before the headers are sent: who has seen them misses no line.
        self.readers.add(lines)
        try:
            response = web.StreamResponse()
            await response.prepare(request)
            while (line := await lines.get()) is not None:
                await response.write(line + b"\n")
        finally:
            self.readers.remove(lines)
        return response

    async def post(self, request: web.Request) -> web.Response:
        return self.send(await request.read())

    async def end(self, request: web.Request) -> web.Response:
        return self.send(None)

    def send(self, line: bytes | None) -> web.Response:
        for lines in self.readers:
            lines.put_nowait(line)
        return web.json_response({"readers": len(self.readers)})


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


async def receive_upload(request: web.Request) -> web.Response:
    size, digest = 0, hashlib.sha256()
    async for block in request.content.iter_any():
        size += len(block)
        digest.update(block)
    return web.json_response({"size": size, "sha256": digest.hexdigest()})


async def answer_late(request: web.Request) -> web.Response:
    await asyncio.sleep(float(request.query["seconds"]))
    return web.Response(text="at last")


async def echo(request: web.Request) -> web.WebSocketResponse:
    peer = web.WebSocketResponse()
    await peer.prepare(request)
    async for message in peer:
        if message.type is WSMsgType.BINARY:
            await peer.send_bytes(message.data)
        elif message.type is WSMsgType.TEXT:
            await peer.send_str(message.data)
            if message.data == "bye":
                await peer.close()
    return peer


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve files made up from their names.")
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    args = parser.parse_args()

    stats, feed = Stats(), Feed()
    app = web.Application(middlewares=[stats.count])
    app.router.add_get("/files/{name}", send_file)
    app.router.add_get("/SHA256SUMS", send_checksums)
    app.router.add_get("/stats", stats.show)
    app.router.add_put("/uploads", receive_upload)
    app.router.add_get("/feed", feed.read)
    app.router.add_post("/feed", feed.post)
    app.router.add_delete("/feed", feed.end)
    app.router.add_get("/wait", answer_late)
    app.router.add_get("/echo", echo)

    # The socket listens before the line is printed: whoever reads the line can connect.
    listener = socket.create_server(("127.0.0.1", args.port), backlog=1024)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    # What a client no longer waits for is cancelled, and at the end nobody is waited for.
    web.run_app(
        app, sock=listener, print=None, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
    )


if __name__ == "__main__":
    main()
