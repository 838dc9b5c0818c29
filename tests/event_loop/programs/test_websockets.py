"""A server and clients of the websockets package, on one loop."""

import asyncio
import contextlib
import socket
import struct

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus

from .conftest import digest


@contextlib.asynccontextmanager
async def serving(handler, **options):
    """Serve it; gives the address."""
    async with serve(handler, "127.0.0.1", 0, **options) as server:
        scheme = "wss" if "ssl" in options else "ws"
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)


def reset(websocket):
    """Break the connection off as a crash does: the other side gets a reset."""
    at_once = struct.pack("ii", 1, 0)
    websocket.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
    websocket.transport.abort()


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_large_messages_go_there_and_back(run, noise, compression):
    data = noise(10_000_000)
    text = "".join(f"line {number}\n" for number in range(200_000))

    async def main():
        options = {"compression": compression, "max_size": None}
        async with serving(echo, **options) as address, connect(address, **options) as websocket:
            await websocket.send(data)
            assert digest(await websocket.recv()) == digest(data)
            await websocket.send(text)
            return await websocket.recv()

    assert run(main()) == text


def test_large_messages_go_there_and_back_over_tls(run, noise, tls):
    data = noise(10_000_000)

    async def main():
        async with (
            serving(echo, ssl=tls[0], max_size=None) as address,
            connect(address, ssl=tls[1], max_size=None) as websocket,
        ):
            await websocket.send(data)
            return digest(await websocket.recv())

    assert run(main()) == digest(data)


def test_a_fragmented_message_arrives_in_its_pieces_or_whole(run):
    pieces = [f"piece {number}, " for number in range(1000)]

    async def main():
        async def answer(websocket):
            received = [piece async for piece in websocket.recv_streaming()]
            await websocket.send(iter(received))
            await websocket.send(await websocket.recv())

        async def produce():
            for piece in pieces:
                yield piece
                await asyncio.sleep(0)

        async with serving(answer) as address, connect(address) as websocket:
            await websocket.send(produce())
            whole = await websocket.recv()
            await websocket.send(pieces)
            return whole, [piece async for piece in websocket.recv_streaming()]

    whole, again = run(main())
    assert whole == "".join(pieces)
    assert "".join(again) == whole


def test_pings_are_answered_while_messages_come(run):
    async def main():
        async with serving(echo) as address, connect(address) as websocket:

            async def ping():
                for _ in range(100):
                    pong = await websocket.ping()
                    assert await pong >= 0
                return True

            async def talk():
                for number in range(500):
                    await websocket.send(str(number))
                return [int(await websocket.recv()) for _ in range(500)]

            return await asyncio.gather(ping(), talk())

    assert run(main()) == [True, list(range(500))]


def test_a_client_that_answers_no_ping_is_let_go(run):
    """It has made a connection, then its program stands still."""

    async def main():
        ended = asyncio.get_running_loop().create_future()

        async def wait(websocket):
            try:
                await websocket.recv()
            except ConnectionClosedError as error:
                ended.set_result((error.sent.code, error.sent.reason))

        options = {"ping_interval": 0.05, "ping_timeout": 0.1, "close_timeout": 0.1}
        async with serving(wait, **options) as address:
            host, port = address.removeprefix("ws://").split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(
                b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            assert (await reader.readline()).startswith(b"HTTP/1.1 101 ")
            result = await ended
            await reader.read()  # to its end
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            return result

    assert run(main()) == (1011, "keepalive ping timeout")


@pytest.mark.parametrize(
    "end", [lambda websocket: websocket.transport.abort(), reset], ids=["abort", "reset"]
)
def test_a_side_that_breaks_off_is_an_error_of_the_other(run, end):
    async def main():
        errors = asyncio.Queue()

        async def serve_or_break(websocket):
            if websocket.request.path == "/break":
                await websocket.recv()
                end(websocket)
            else:
                with pytest.raises(ConnectionClosedError) as raised:
                    while True:
                        await websocket.recv()
                errors.put_nowait(raised.value.rcvd)

        async with serving(serve_or_break) as address:
            async with connect(f"{address}/break") as websocket:
                await websocket.send("now")
                with pytest.raises(ConnectionClosedError):
                    while True:
                        await websocket.recv()
            async with connect(address) as websocket:
                await websocket.send("hello")
                end(websocket)
            assert await errors.get() is None  # no close frame came

    run(main())


def test_closing_tells_code_and_reason_to_the_other(run):
    async def main():
        codes = asyncio.Queue()

        async def wait(websocket):
            try:
                await websocket.recv()
            except ConnectionClosedOK as error:
                codes.put_nowait((error.rcvd.code, error.rcvd.reason))

        async with serving(wait) as address:
            websocket = await connect(address)
            await websocket.close(1001, "going away")
            return await codes.get(), websocket.close_code

    assert run(main()) == ((1001, "going away"), 1001)


def test_a_slow_reader_holds_the_writer_up_and_loses_nothing(run, noise):
    count, piece = 200, noise(100_000)

    async def main():
        sent = 0

        async def flood(websocket):
            nonlocal sent
            for number in range(count):
                await websocket.send(struct.pack("I", number) + piece)
                sent += 1

        async with (
            serving(flood, compression=None) as address,
            connect(address, compression=None, max_queue=2) as websocket,
        ):
            last = -1
            while sent != last:  # until what is between them is full
                last = sent
                await asyncio.sleep(0.05)
            assert 0 < sent < count
            for number in range(count):
                message = await websocket.recv()
                assert struct.unpack_from("I", message) == (number,)
                assert message[4:] == piece
            return sent

    assert run(main()) == count


def test_many_clients_hear_what_is_broadcast(run):
    async def main():
        everybody = set()
        here = asyncio.Semaphore(0)

        async def join(websocket):
            everybody.add(websocket)
            here.release()
            await websocket.wait_closed()

        async def listen(address):
            async with connect(address) as websocket:
                return [await websocket.recv() for _ in range(50)]

        async with serving(join) as address:
            listening = [asyncio.create_task(listen(address)) for _ in range(100)]
            for _ in listening:
                await here.acquire()
            for number in range(50):
                await asyncio.gather(*(each.send(str(number)) for each in everybody))
            return await asyncio.gather(*listening)

    assert run(main()) == [[str(number) for number in range(50)]] * 100


def test_a_handshake_can_be_refused(run):
    async def main():
        def refuse(connection, request):
            return connection.respond(403, "no entrance\n")

        async with serving(echo, process_request=refuse) as address:
            with pytest.raises(InvalidStatus) as raised:
                await connect(address)
        return raised.value.response.status_code, raised.value.response.body

    assert run(main()) == (403, b"no entrance\n")
