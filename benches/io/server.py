"""Servers on a loop under test, all in one process: `python -m benches.io.server LOOP CERTIFICATE FOLDER`.

Each of them sends back what it gets. The first line of the output is a JSON object: the address of each server, or
why the loop can't have it. Ends when its input does: it can't outlive the process that started it.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

from .loops import LOOPS

#: At most so many bytes are read at once, where the server has a say in it.
ROOM = 1 << 18

HOST = "127.0.0.1"

Loop = asyncio.AbstractEventLoop


class Echo(asyncio.Protocol):
    def connection_made(self, transport) -> None:
        self.write = transport.write

    def data_received(self, data: bytes) -> None:
        self.write(data)


class EchoBuffered(asyncio.BufferedProtocol):
    def connection_made(self, transport) -> None:
        self._write = transport.write
        self._room = memoryview(bytearray(ROOM))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        self._write(bytes(self._room[:nbytes]))  # a copy: what can't be sent at once is kept


class EchoDatagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport) -> None:
        self._send = transport.sendto

    def datagram_received(self, data: bytes, addr) -> None:
        self._send(data, addr)


class AnswerOnce(asyncio.Protocol):
    """Closes after its answer, as a server of HTTP/1.0 does."""

    def connection_made(self, transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)
        self._transport.close()


async def protocol(loop: Loop) -> str:
    return address(await loop.create_server(Echo, HOST, 0))


async def buffered(loop: Loop) -> str:
    return address(await loop.create_server(EchoBuffered, HOST, 0))


async def streams(loop: Loop) -> str:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(ROOM):
            writer.write(data)
            await writer.drain()
        writer.close()

    return address(await asyncio.start_server(echo, HOST, 0))


async def sock(loop: Loop) -> str:
    listening = socket.create_server((HOST, 0))
    listening.setblocking(False)

    async def echo(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            while data := await loop.sock_recv(connection, ROOM):
                await loop.sock_sendall(connection, data)

    async def accept() -> None:
        while True:
            connection, _ = await loop.sock_accept(listening)
            keep(loop.create_task(echo(connection)))

    keep(loop.create_task(accept()))
    return f"{HOST}:{listening.getsockname()[1]}"


async def unix(loop: Loop) -> str:
    path = str(Path(sys.argv[3], f"{os.getpid()}"))
    kept.add(await loop.create_unix_server(Echo, path))
    return path


async def udp(loop: Loop) -> str:
    transport, _ = await loop.create_datagram_endpoint(EchoDatagrams, (HOST, 0))
    kept.add(transport)
    return f"{HOST}:{transport.get_extra_info('sockname')[1]}"


async def tls(loop: Loop) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2])
    return address(await loop.create_server(Echo, HOST, 0, ssl=context))


async def once(loop: Loop) -> str:
    return address(await loop.create_server(AnswerOnce, HOST, 0))


async def once_by_streams(loop: Loop) -> str:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(ROOM))
        writer.close()

    return address(await asyncio.start_server(answer, HOST, 0))


SERVERS: dict[str, Callable[[Loop], Awaitable[str]]] = {
    each.__name__: each for each in (protocol, buffered, streams, sock, unix, udp, tls, once, once_by_streams)
}

#: What the loop itself may hold weakly.
kept: set[object] = set()


def keep(task: asyncio.Task) -> None:
    kept.add(task)
    task.add_done_callback(kept.discard)


def address(server: asyncio.Server) -> str:
    kept.add(server)
    return f"{HOST}:{server.sockets[0].getsockname()[1]}"


async def serve() -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)  # the load tells what has failed
    found = {}
    for name, start in SERVERS.items():
        try:
            found[name] = {"address": await start(loop)}
        except Exception as error:
            found[name] = {"missing": f"{type(error).__name__}: {error}"}
    print(json.dumps(found), flush=True)
    await asyncio.Event().wait()


def end_with_input() -> None:
    os.read(0, 1)
    os._exit(0)


if __name__ == "__main__":
    factory = LOOPS[sys.argv[1]]()
    threading.Thread(target=end_with_input, daemon=True).start()
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve())
