"""Connections that are made and ended in every way, on one `EventLoop`: what they leave behind.

A quarter is closed by the client and a quarter by the server; the rest is half-closed, or reset by either side. Server
and client look at what arrives.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from asyncio_thread_loop import EventLoop

from .io.programs import make_certificate

#: How a connection ends, one after the other; the client asks for it.
CLIENT_CLOSES, SERVER_CLOSES, HALF_CLOSED, CLIENT_RESETS, SERVER_RESETS = b"csher"
ENDS = [
    *(CLIENT_CLOSES, SERVER_CLOSES, HALF_CLOSED, CLIENT_RESETS),
    *(CLIENT_CLOSES, SERVER_CLOSES, HALF_CLOSED, SERVER_RESETS),
]

#: What the server says to a client that has said all it will.
GOODBYE = b"goodbye\n"

#: Connections at once.
AT_ONCE = 20

#: More addresses have more ports: those of a closed connection aren't free at once.
HOSTS = [f"127.0.0.{number}" for number in range(1, 9)]

Connect = Callable[[int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

NAME = "localhost"


def reset(transport: asyncio.BaseTransport) -> None:
    """Ends the connection as a crash does."""
    at_once = struct.pack("ii", 1, 0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
    transport.abort()


class Serving:
    """Counts its connections: when none is left, the server's sides have ended as well."""

    def __init__(self) -> None:
        self._open = 0
        self._none = asyncio.Event()
        self._none.set()

    def begin(self) -> None:
        self._open += 1
        self._none.clear()

    def end(self) -> None:
        self._open -= 1
        if not self._open:
            self._none.set()

    async def ended(self) -> None:
        await self._none.wait()

    async def by_streams(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.begin()
        try:
            line = await reader.readline()
            writer.write(line)
            if line[0] == SERVER_RESETS:
                await writer.drain()
                reset(writer.transport)
            elif line[0] != SERVER_CLOSES and not await reader.read() and writer.can_write_eof():
                writer.write(GOODBYE)
            writer.close()
            await writer.wait_closed()
        except ConnectionError:
            writer.close()
        finally:
            self.end()


class ByProtocol(asyncio.BufferedProtocol):
    """The same as a protocol."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._room = bytearray(1000)
        self._line = b""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._serving.begin()
        self._transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        self._line += self._room[:nbytes]
        if self._line.endswith(b"\n"):
            self._transport.write(self._line)
            if self._line[0] == SERVER_CLOSES:
                self._transport.close()
            elif self._line[0] == SERVER_RESETS:
                reset(self._transport)

    def eof_received(self) -> None:
        self._transport.write(GOODBYE)

    def connection_lost(self, exc: Exception | None) -> None:
        self._serving.end()


async def talk(connect: Connect, number: int) -> None:
    """One connection, by streams."""
    end = ENDS[number % len(ENDS)]
    line = bytes([end]) + b"%d\n" % number
    reader, writer = await connect(number)
    try:
        writer.write(line)
        expect(await reader.readline(), line)
        if end == CLIENT_RESETS:
            reset(writer.transport)
        elif end == HALF_CLOSED and writer.can_write_eof():
            writer.write_eof()
            expect(await reader.read(), GOODBYE)
        elif end in (SERVER_CLOSES, SERVER_RESETS):
            with suppress(ConnectionResetError):
                expect(await reader.read(), b"")
    except ConnectionResetError:
        if end != SERVER_RESETS:  # which may overtake the answer
            raise
    finally:
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


async def talk_by_socket(address: tuple[str, int], number: int) -> None:
    """The same with the loop's methods for sockets."""
    loop = asyncio.get_running_loop()
    end = ENDS[number % len(ENDS)]
    line = bytes([end]) + b"%d\n" % number
    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, address)
        await loop.sock_sendall(client, line)
        try:
            answer = b""
            while not answer.endswith(b"\n"):
                answer += await loop.sock_recv(client, 1000)
            expect(answer, line)
            if end == CLIENT_RESETS:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif end == HALF_CLOSED:
                client.shutdown(socket.SHUT_WR)
                expect(await loop.sock_recv(client, 1000), GOODBYE)
            elif end == SERVER_CLOSES:
                expect(await loop.sock_recv(client, 1000), b"")
            elif end == SERVER_RESETS:
                await loop.sock_recv(client, 1000)
        except ConnectionResetError:
            if end != SERVER_RESETS:
                raise


def expect(received: bytes, wanted: bytes) -> None:
    if received != wanted:
        raise ValueError(f"received {received!r} and not {wanted!r}")


# Each gives a function that makes one connection.


@asynccontextmanager
async def tcp_by_streams(serving: Serving) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    async with await asyncio.start_server(serving.by_streams, HOSTS, 0) as server:
        addresses = [each.getsockname() for each in server.sockets]

        def connect(number: int):
            return asyncio.open_connection(*addresses[number % len(addresses)])

        yield lambda number: talk(connect, number)


@asynccontextmanager
async def tcp_by_protocol_and_sockets(
    serving: Serving,
) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: ByProtocol(serving), HOSTS, 0) as server:
        addresses = [each.getsockname() for each in server.sockets]
        yield lambda number: talk_by_socket(addresses[number % len(addresses)], number)


@asynccontextmanager
async def unix(serving: Serving) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    with tempfile.TemporaryDirectory(prefix="connections-") as folder:
        path = str(Path(folder, "socket"))
        async with await asyncio.start_unix_server(serving.by_streams, path):
            yield lambda number: talk(lambda _: asyncio.open_unix_connection(path), number)


@asynccontextmanager
async def tls(serving: Serving) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    with tempfile.TemporaryDirectory(prefix="connections-") as folder:
        certificate = Path(folder, "certificate.pem")
        make_certificate(certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        trusting = ssl.create_default_context(cafile=certificate)
    async with await asyncio.start_server(serving.by_streams, HOSTS, 0, ssl=context) as server:
        addresses = [each.getsockname() for each in server.sockets]

        def connect(number: int):
            host, port = addresses[number % len(addresses)]
            return asyncio.open_connection(host, port, ssl=trusting, server_hostname=NAME)

        yield lambda number: talk(connect, number)


#: What is made, and which part of all it is.
KINDS = {
    "TCP, streams": (tcp_by_streams, 0.5),
    "TCP, protocol and sock_*": (tcp_by_protocol_and_sockets, 0.5),
    "Unix, streams": (unix, 0.2),
    "TLS, streams": (tls, 0.05),
}


def measure(connections: int, flat: Callable[[str, Callable[[int], object], int], bool]) -> list[bool]:
    """Makes so many over TCP, and fewer of the other kinds. Whether each kind left nothing behind."""
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        results = []
        for name, (kind, part) in KINDS.items():
            times = round(connections * part)
            # What went wrong with a connection that was reset is nobody's business, but that it went wrong only so.
            failures: list[dict] = []
            runner.get_loop().set_exception_handler(lambda _, context, seen=failures: seen.append(context))
            runner.run(churn(kind, 20 * AT_ONCE))  # what is needed for so many at once is there from here on
            results.append(
                flat(f"{times:,} x {name}", lambda times, kind=kind: runner.run(churn(kind, times)), times)
            )
            for context in failures[:3]:
                print(f"{name}: {context.get('message')}: {context.get('exception')!r}")
            results.append(not failures)
        return results


async def churn(kind: Callable, times: int) -> None:
    serving = Serving()
    numbers = iter(range(times))

    async def client(one: Callable[[int], Awaitable[None]]) -> None:
        for number in numbers:
            await one(number)

    async with kind(serving) as one:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(client(one))
        await serving.ended()
