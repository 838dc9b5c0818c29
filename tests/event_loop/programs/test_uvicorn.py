"""uvicorn serves a Starlette application on the loop, in a process of its own, as from a shell."""

import asyncio
import io
import re
import signal
import socket

import aiohttp
import pytest
from hosts.program import DISORDER

from .conftest import digest

APP = """\
import asyncio, contextlib, hashlib, os
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute


def say(*words):
    # One write, so that lines of several tasks don't mix.
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())


@contextlib.asynccontextmanager
async def lifespan(app):
    loop = type(asyncio.get_running_loop())
    say("on", f"{loop.__module__}.{loop.__qualname__}")
    yield
    say("left")


async def double(request):
    await asyncio.sleep(0)
    return JSONResponse({"result": 2 * request.path_params["number"]})


async def upload(request):
    digest = hashlib.sha256()
    async for chunk in request.stream():
        digest.update(chunk)
    return Response(digest.hexdigest())


async def stream(request):
    async def lines():
        for number in range(request.path_params["count"]):
            yield f"line {number}\\n" * 100
            await asyncio.sleep(0)

    return StreamingResponse(lines(), media_type="text/plain")


async def endless(request):
    async def forever():
        try:
            while True:
                yield b"x" * 65536
                await asyncio.sleep(0)  # once the client is gone nothing else would wait
        finally:
            say("the stream has ended")

    return StreamingResponse(forever())


async def wait(request):
    say("waiting")
    while not os.path.exists("answer"):
        await asyncio.sleep(0.01)
    return Response("answered")


async def hold(request):
    say("holding")
    try:
        await asyncio.Event().wait()
    finally:
        say("let go")


async def fail(request):
    raise ZeroDivisionError("on purpose")


async def echo(websocket):
    await websocket.accept()
    try:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                say("disconnected with", message["code"])
                return
            if (text := message.get("text")) is not None:
                await websocket.send_text(text[::-1])
            else:
                await websocket.send_bytes(message["bytes"])
    finally:
        say("the socket has ended")


app = Starlette(
    routes=[
        Route("/double/{number:int}", double),
        Route("/upload", upload, methods=["POST"]),
        Route("/stream/{count:int}", stream),
        Route("/endless", endless),
        Route("/wait", wait),
        Route("/hold", hold),
        Route("/fail", fail),
        WebSocketRoute("/echo", echo),
    ],
    lifespan=lifespan,
)
"""


@pytest.fixture(params=["h11", "httptools"])
def uvicorn(program, tmp_path, request):
    """Serve the application; returns the program and its address."""

    def start(*options):
        (tmp_path / "app.py").write_text(APP)
        command = ["-m", "uvicorn", "app:app", "--port", "0", "--no-use-colors", "--no-access-log"]
        running = program(
            *command, "--loop", "asyncio_thread_loop:EventLoop", "--http", request.param, *options
        )
        address = running.expect(r"Uvicorn running on (https?://\S+)")
        assert running.found(r"^on (\S+)$") == ["asyncio_thread_loop.EventLoop"]
        return running, address

    return start


def assert_ended_gracefully(running, code=-signal.SIGTERM):
    # When uvicorn has ended in good order, it raises the signal once more, for whoever started it to see.
    assert running.finish() == code, running
    assert running.found("^left$") and running.found("Application shutdown complete"), running
    assert not DISORDER.search(running.output), running


def test_requests_under_load_are_all_answered_right(uvicorn, run):
    running, address = uvicorn()

    async def client(session, numbers):
        for number in numbers:
            async with session.get(f"{address}/double/{number}") as response:
                assert (response.status, await response.json()) == (200, {"result": 2 * number})

    async def main():
        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(client(session, range(start, 1000, 50)) for start in range(50)))

    run(main())
    running.send(signal.SIGTERM)
    assert_ended_gracefully(running)


def test_requests_over_tls_are_all_answered_right(uvicorn, run, tls, certificate, noise):
    running, address = uvicorn("--ssl-certfile", certificate, "--ssl-keyfile", certificate)
    assert address.startswith("https://")
    data = noise(1_000_000)

    async def one(session, number):
        async with session.get(f"{address}/double/{number}") as response:
            assert await response.json() == {"result": 2 * number}
        async with session.post(f"{address}/upload", data=data[number:]) as response:
            assert await response.text() == digest(data[number:])

    async def main():
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls[1])) as session:
            await asyncio.gather(*(one(session, number) for number in range(20)))

    run(main())
    running.send(signal.SIGTERM)
    assert_ended_gracefully(running)


def test_a_large_upload_arrives_whole(uvicorn, run, noise):
    running, address = uvicorn()
    data = noise(20_000_000)

    async def main():
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{address}/upload", data=io.BytesIO(data)) as response,
        ):
            return await response.text()

    assert run(main()) == digest(data)
    running.send(signal.SIGTERM)
    assert_ended_gracefully(running)


def test_a_streamed_response_arrives_whole(uvicorn, run):
    running, address = uvicorn()

    async def main():
        async with aiohttp.ClientSession() as session, session.get(f"{address}/stream/2000") as response:
            assert "Content-Length" not in response.headers
            return [line async for line in response.content]

    lines = run(main())
    assert lines == [b"line %d\n" % number for number in range(2000) for _ in range(100)]
    running.send(signal.SIGTERM)
    assert_ended_gracefully(running)


def test_a_client_that_goes_away_ends_its_stream(uvicorn, run):
    running, address = uvicorn()

    async def main():
        async with aiohttp.ClientSession() as session, session.get(f"{address}/endless") as response:
            assert await response.content.readexactly(1_000_000) == b"x" * 1_000_000

    run(main())
    running.expect("^the stream has ended$")
    running.send(signal.SIGTERM)
    assert_ended_gracefully(running)


def test_a_failing_request_harms_no_other(uvicorn, run):
    running, address = uvicorn()

    async def ask(session, path):
        async with session.get(f"{address}{path}") as response:
            return response.status

    async def main():
        async with aiohttp.ClientSession() as session:
            paths = ["/fail", "/double/1", "/nowhere"] * 20
            return await asyncio.gather(*(ask(session, path) for path in paths))

    assert run(main()) == [500, 200, 404] * 20
    running.send(signal.SIGTERM)
    assert running.finish() == -signal.SIGTERM
    assert len(running.found("ZeroDivisionError: on purpose")) == 20
    assert running.found("^left$")


def test_what_is_no_request_is_refused_and_harms_no_other(uvicorn, run):
    running, address = uvicorn()
    host, port = re.fullmatch(r"http://(.*):(\d+)", address).groups()
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        with client.makefile("rb") as answer:
            assert re.fullmatch(rb"HTTP/1.1 400 .*Invalid HTTP request received.", answer.read(), re.DOTALL)

    async def main():
        async with aiohttp.ClientSession() as session, session.get(f"{address}/double/4") as response:
            return await response.json()

    assert run(main()) == {"result": 8}
    running.send(signal.SIGTERM)
    assert_ended_gracefully(running)


def test_websockets_talk_both_ways(uvicorn, run, noise):
    running, address = uvicorn()

    async def talk(session, number):
        async with session.ws_connect(f"{address}/echo", max_msg_size=0) as websocket:
            for count in range(20):
                await websocket.send_str(f"{number}/{count}")
                assert await websocket.receive_str(timeout=None) == f"{number}/{count}"[::-1]
            data = noise(1_000_000, number)
            await websocket.send_bytes(data)
            assert await websocket.receive_bytes() == data
            await websocket.close(code=4000 + number)

    async def main():
        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(talk(session, number) for number in range(10)))

    run(main())
    running.expect("^the socket has ended$", times=10)
    codes = running.found(r"^disconnected with (\d+)$")
    assert sorted(codes) == [str(4000 + number) for number in range(10)]
    running.send(signal.SIGTERM)
    assert_ended_gracefully(running)


def test_a_request_in_flight_is_answered_before_the_server_ends(uvicorn, run, tmp_path):
    running, address = uvicorn()

    async def main():
        async with aiohttp.ClientSession() as session:

            async def ask():
                async with session.get(f"{address}/wait") as response:
                    return response.status, await response.text()

            asking = asyncio.create_task(ask())
            await asyncio.to_thread(running.expect, "^waiting$")
            running.send(signal.SIGTERM)
            await asyncio.to_thread(running.expect, "Waiting for connections to close")
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get(f"{address}/double/1", headers={"Connection": "close"})
            (tmp_path / "answer").touch()
            return await asking

    assert run(main()) == (200, "answered")
    assert_ended_gracefully(running)


def test_a_request_that_never_ends_is_cancelled_when_the_server_loses_patience(uvicorn, run):
    running, address = uvicorn("--timeout-graceful-shutdown", "1")

    async def main():
        async with aiohttp.ClientSession() as session:

            async def ask():
                async with session.get(f"{address}/hold") as response:
                    return response.status

            asking = asyncio.create_task(ask())
            await asyncio.to_thread(running.expect, "^holding$")
            running.send(signal.SIGTERM)
            return await asking

    assert run(main()) == 500
    assert running.finish() == -signal.SIGTERM, running
    assert running.found("^let go$") == ["let go"], running
    assert running.found("^left$"), running


def test_ctrl_c_ends_the_server(uvicorn):
    running, _ = uvicorn()
    running.send(signal.SIGINT)
    assert_ended_gracefully(running, 0)
