"""An aiohttp server and its clients, on one loop."""

import asyncio
import contextlib
import hashlib
import io

import aiohttp
import pytest
from aiohttp import web

from .conftest import digest

SIZE = 20_000_000


@contextlib.asynccontextmanager
async def serving(*routes, tls=None):
    """Serve these routes; gives the address."""
    app = web.Application(client_max_size=0)
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture(params=["plain", "over TLS"])
def contexts(request, tls):
    """TLS contexts of the server and of the client; none for plain HTTP."""
    return tls if request.param == "over TLS" else (None, True)


def test_a_large_upload_and_a_large_download_arrive_whole(run, contexts, noise):
    data = noise(SIZE)

    async def upload(request):
        received = hashlib.sha256()
        async for chunk in request.content.iter_any():
            received.update(chunk)
        return web.json_response({"digest": received.hexdigest(), "length": request.content_length})

    async def download(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for start in range(0, SIZE, 300_000):
            await response.write(data[start : start + 300_000])
        await response.write_eof()
        return response

    async def main():
        async with (
            serving(web.post("/", upload), web.get("/", download), tls=contexts[0]) as address,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=contexts[1])) as session,
        ):
            async with session.post(address, data=io.BytesIO(data)) as response:
                assert await response.json() == {"digest": digest(data), "length": SIZE}
            async with session.get(address) as response:
                received = hashlib.sha256()
                async for chunk in response.content.iter_chunked(100_000):
                    received.update(chunk)
        return received.hexdigest()

    assert run(main()) == digest(data)


def test_a_generator_is_uploaded_as_it_goes(run):
    async def upload(request):
        return web.json_response([int(line) async for line in request.content])

    async def numbers():
        for number in range(1000):
            yield b"%d\n" % number
            await asyncio.sleep(0)

    async def main():
        async with (
            serving(web.post("/", upload)) as address,
            aiohttp.ClientSession() as session,
            session.post(address, data=numbers()) as response,
        ):
            return await response.json()

    assert run(main()) == list(range(1000))


def test_a_file_is_sent_whole(run, contexts, noise, tmp_path):
    """Without TLS it goes through `loop.sendfile`."""
    data = noise(SIZE)
    (tmp_path / "file").write_bytes(data)

    async def send(request):
        return web.FileResponse(tmp_path / "file")

    async def main():
        async with (
            serving(web.get("/", send), tls=contexts[0]) as address,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=contexts[1])) as session,
        ):
            async with session.get(address) as response:
                assert response.content_length == SIZE
                whole = await response.read()
            async with session.get(address, headers={"Range": "bytes=1000-1999"}) as response:
                assert (response.status, await response.read()) == (206, data[1000:2000])
        return digest(whole)

    assert run(main()) == digest(data)


def test_a_connection_is_used_again_as_long_as_both_keep_it(run, contexts):
    async def peer(request):
        response = web.json_response(request.transport.get_extra_info("peername")[1])
        if "last" in request.query:
            response.force_close()
        return response

    async def main():
        connector = aiohttp.TCPConnector(limit=1, ssl=contexts[1])
        async with (
            serving(web.get("/", peer), tls=contexts[0]) as address,
            aiohttp.ClientSession(connector=connector) as session,
        ):

            async def ask(query=""):
                async with session.get(address + query) as response:
                    return await response.json()

            first = {await ask() for _ in range(100)}
            first.add(await ask("/?last"))
            second = set(await asyncio.gather(*(ask() for _ in range(100))))
            return len(first), len(second), len(first | second)

    assert run(main()) == (1, 1, 2)


def test_many_requests_at_once_are_all_answered_right(run, contexts):
    async def double(request):
        await asyncio.sleep(0.001)
        return web.json_response(2 * int(request.match_info["number"]))

    async def main():
        async with (
            serving(web.get("/{number}", double), tls=contexts[0]) as address,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=50, ssl=contexts[1])) as session,
        ):

            async def ask(number):
                async with session.get(f"{address}/{number}") as response:
                    return await response.json()

            return await asyncio.gather(*map(ask, range(500)))

    assert run(main()) == [2 * number for number in range(500)]


class Holding:
    """A handler that answers only when it is cancelled."""

    def __init__(self):
        self.entered, self.cancelled = asyncio.Event(), asyncio.Event()

    async def handle(self, request):
        self.entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


async def answer(request):
    return web.Response(text="answered")


def test_a_request_that_takes_too_long_is_given_up_on_both_sides(run):
    async def main():
        holding = Holding()

        async def stall(request):
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"the beginning")
            await holding.handle(request)

        routes = [web.get("/hold", holding.handle), web.get("/stall", stall), web.get("/answer", answer)]
        async with serving(*routes) as address, aiohttp.ClientSession() as session:
            for path, timeout in (
                ("/hold", aiohttp.ClientTimeout(total=0.2)),
                ("/stall", aiohttp.ClientTimeout(sock_read=0.2)),
            ):
                with pytest.raises(asyncio.TimeoutError):
                    async with session.get(address + path, timeout=timeout) as response:
                        assert await response.content.readexactly(13) == b"the beginning"
                        await response.read()
                await holding.cancelled.wait()
                holding.cancelled.clear()
            async with session.get(address + "/answer") as response:
                return await response.text()

    assert run(main()) == "answered"


def test_a_cancelled_request_leaves_the_session_usable(run):
    async def main():
        holding = Holding()

        routes = [web.get("/hold", holding.handle), web.get("/answer", answer)]
        connector = aiohttp.TCPConnector(limit=1)
        async with serving(*routes) as address, aiohttp.ClientSession(connector=connector) as session:

            async def ask(path):
                async with session.get(address + path) as response:
                    return await response.text()

            asking = asyncio.create_task(ask("/hold"))
            await holding.entered.wait()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await holding.cancelled.wait()
            return await ask("/answer")

    assert run(main()) == "answered"


def test_a_server_that_breaks_off_is_an_error_of_the_client(run):
    async def break_off(request):
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"x" * 10)
        request.transport.abort()
        return response

    async def vanish(request):
        request.transport.abort()
        return web.Response()

    async def main():
        routes = [web.get("/break", break_off), web.get("/vanish", vanish)]
        async with serving(*routes) as address, aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientPayloadError):
                async with session.get(address + "/break") as response:
                    await response.read()
            with pytest.raises(aiohttp.ClientConnectionError):
                await session.get(address + "/vanish")
        with pytest.raises(aiohttp.ClientConnectorError):
            async with aiohttp.ClientSession() as session:
                await session.get(address)

    run(main())


def test_websockets_carry_messages_both_ways(run, contexts, noise):
    data = noise(3_000_000)

    async def echo(request):
        websocket = web.WebSocketResponse(max_msg_size=0)
        await websocket.prepare(request)
        async for message in websocket:
            if message.type is aiohttp.WSMsgType.TEXT:
                await websocket.send_str(message.data[::-1])
            else:
                await websocket.send_bytes(message.data)
        return websocket

    async def main():
        async with (
            serving(web.get("/", echo), tls=contexts[0]) as address,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=contexts[1])) as session,
            session.ws_connect(address, max_msg_size=0) as websocket,
        ):
            for number in range(200):
                await websocket.send_str(f"message {number}")
            answers = [await websocket.receive_str() for _ in range(200)]
            await websocket.send_bytes(data)
            assert await websocket.receive_bytes() == data
        return answers, websocket.close_code

    assert run(main()) == ([f"message {number}"[::-1] for number in range(200)], 1000)
