"""Every promise is tested on the native loop, on asyncio's own and on uvloop, where it holds for all."""

import asyncio
import threading

import pytest

from asyncio_thread_loop import AsyncioThreadLoop

from .harness import WAIT, Script, no_thread_left


@pytest.fixture(params=["native", "standard", "uvloop"])
def flavour(request):
    if request.param == "uvloop":
        pytest.importorskip("uvloop", reason="uvloop is not installed")
    return request.param


@pytest.fixture
def loop_factory(flavour):
    if flavour == "native":
        return None
    if flavour == "standard":
        return asyncio.SelectorEventLoop
    import uvloop

    return uvloop.new_event_loop


@pytest.fixture
def make_loop(loop_factory):
    """Make an `AsyncioThreadLoop` of the flavour under test; what is left open is closed after the test."""
    made = []

    def make(exit_timeout=None, **options):
        loop = AsyncioThreadLoop(exit_timeout, loop_factory=loop_factory, **options)
        made.append(loop)
        return loop

    yield make
    for loop in made:
        loop.shutdown(timeout=WAIT)


@pytest.fixture
def loop(make_loop):
    """An open loop of the flavour under test."""
    with make_loop(exit_timeout=5) as loop:
        yield loop


@pytest.fixture
def gate():
    """A `threading.Event` that is set after the test, so that nothing waits for it for ever."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def script(flavour):
    """Start scripts on the flavour under test."""
    started = []

    def start(code):
        started.append(Script(code, flavour))
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.fixture(autouse=True)
def no_thread_is_left():
    with no_thread_left():
        yield
