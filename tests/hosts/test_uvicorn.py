"""uvicorn serves a Starlette app whose synchronous endpoints, run in a pool of threads, call a loop of their own."""

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from contract.harness import Caller

from .program import DISORDER, get

APP = '''\
import asyncio, contextlib, os, threading
from asyncio_thread_loop import AsyncioThreadLoop, get_default_loop
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

loop = AsyncioThreadLoop(name="app")


def say(*words):
    # One write, so that lines of several threads don't mix.
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())


async def hold(what, *, task_status):
    """Runs until it is cancelled."""
    say("holding", what)
    task_status.started()
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.05)
        say("cleaned", what)


async def double(number):
    await asyncio.sleep(0.01)
    return 2 * number, threading.current_thread().name


@contextlib.asynccontextmanager
async def lifespan(app):
    with loop:
        loop.start_task(hold, "background")
        yield
    say("left")


def double_it(request):
    result, thread = loop.evaluate(double(request.path_params["number"]))
    return JSONResponse({"result": result, "of": thread, "by": threading.current_thread().name})


def divide(request):
    async def divide():
        return 1 / 0

    try:
        loop.evaluate(divide())
    except ZeroDivisionError as error:
        return JSONResponse(str(error), 500)


def wait(request):
    async def answer_late():
        say("waiting")
        while not os.path.exists("answer"):
            await asyncio.sleep(0.01)
        return "answered"

    return JSONResponse(loop.evaluate(answer_late()))


def hold_a_request(request):
    future, _ = loop.start_task(hold, "a request")
    return JSONResponse(future.result())


def hold_on_the_default_loop(request):
    get_default_loop().start_task(hold, "on the default loop")
    return JSONResponse("holding")


async def double_it_on_the_loop_of_uvicorn(request):
    """What one should not do: uvicorn's loop waits. Yet what it waits for runs elsewhere, and comes."""
    result, thread = loop.evaluate(double(request.path_params["number"]))
    return JSONResponse({"result": result, "of": thread, "by": threading.current_thread().name})


async def block(request):
    """Count what uvicorn's loop does for others before, while and after it waits for ours."""

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    async def count_for_a_while():
        before = ticks
        await asyncio.sleep(0.1)
        return ticks - before

    ticks = 0
    ticking = asyncio.create_task(tick())
    free = await count_for_a_while()
    waiting = loop.evaluate(count_for_a_while())
    again = await count_for_a_while()
    ticking.cancel()
    return JSONResponse([free > 0, waiting, again > 0])


async def await_it(request):
    """What one should do: `to_thread`, or the future itself."""
    in_a_thread, _ = await asyncio.to_thread(loop.evaluate, double(4))
    awaited, _ = await asyncio.wrap_future(loop.submit(double, 5))
    return JSONResponse([in_a_thread, awaited])


app = Starlette(
    routes=[
        Route("/double/{number:int}", double_it),
        Route("/divide", divide),
        Route("/wait", wait),
        Route("/hold", hold_a_request),
        Route("/default", hold_on_the_default_loop),
        Route("/wrong/{number:int}", double_it_on_the_loop_of_uvicorn),
        Route("/block", block),
        Route("/await", await_it),
    ],
    lifespan=lifespan,
)
'''


@pytest.fixture
def uvicorn(program, tmp_path):
    """Serve the app; returns the program and its address."""

    def start(*options):
        (tmp_path / "app.py").write_text(APP)
        running = program("-m", "uvicorn", "app:app", "--port", "0", "--no-use-colors", *options)
        return running, running.expect(r"Uvicorn running on (http://\S+)")

    return start


def assert_ended_gracefully(running, code=-signal.SIGTERM):
    # When uvicorn has ended in good order, it raises the signal once more, for whoever started it to see.
    assert running.finish() == code, running
    assert running.found("^cleaned background$") == ["cleaned background"], running
    assert running.found("^left$") and running.found("Application shutdown complete"), running
    assert not DISORDER.search(running.output), running


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_requests_at_once_are_all_answered_right(uvicorn, loop):
    # One in five asks an async endpoint that holds up uvicorn's own loop, which slows the others down, no more.
    running, address = uvicorn("--loop", loop)

    def ask(number):
        path, by = ("wrong", "MainThread") if number % 5 == 0 else ("double", "AnyIO worker thread")
        assert get(f"{address}/{path}/{number}") == (200, {"result": 2 * number, "of": "app", "by": by})

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(200)))
    assert get(f"{address}/divide") == (500, "division by zero")
    assert get(f"{address}/await") == (200, [8, 10])
    running.send(signal.SIGTERM)
    assert_ended_gracefully(running)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_an_async_endpoint_that_waits_blocks_the_loop_of_uvicorn_only_while_it_waits(uvicorn, loop):
    running, address = uvicorn("--loop", loop)
    assert get(f"{address}/block") == (200, [True, 0, True])
    assert get(f"{address}/double/3")[0] == 200
    running.send(signal.SIGTERM)
    assert_ended_gracefully(running)


def test_a_request_in_flight_is_answered_before_the_server_ends(uvicorn, tmp_path):
    running, address = uvicorn()
    asking = Caller(get, f"{address}/wait")
    running.expect("^waiting$")
    running.send(signal.SIGTERM)
    running.expect("Waiting for connections to close")
    (tmp_path / "answer").touch()
    assert asking.outcome() == (200, "answered")
    assert_ended_gracefully(running)


def test_a_request_that_never_ends_is_cleaned_up_when_the_server_loses_patience(uvicorn):
    # uvicorn leaves the thread of that request behind, waiting; the loop, which the lifespan closes, lets it go.
    running, address = uvicorn("--timeout-graceful-shutdown", "1")
    asking = Caller(get, f"{address}/hold", ask_again=False)
    running.expect("^holding a request$")
    running.send(signal.SIGTERM)
    asking.error()  # whatever uvicorn answers, it does not keep the client waiting
    assert running.finish() == -signal.SIGTERM, running
    assert sorted(running.found("^cleaned (.*)$")) == ["a request", "background"], running
    assert running.found("^left$"), running


def test_ctrl_c_ends_the_server_and_every_loop(uvicorn):
    running, address = uvicorn()
    assert get(f"{address}/default") == (200, "holding")
    running.send(signal.SIGINT)
    assert_ended_gracefully(running, 0)
    assert running.found("^cleaned on the default loop$"), running
