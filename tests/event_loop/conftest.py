"""`EventLoop` on its own, without the bridge."""

import asyncio
import socket
import ssl
import subprocess
import sys

import pytest
from self_signed import self_signed

from asyncio_thread_loop import AsyncioThreadLoop, EventLoop

WAIT = 20.0
"""Seconds after which a wait counts as a hang."""


@pytest.fixture
def loop():
    """An event loop that nobody runs yet; closed after the test."""
    loop = EventLoop()
    yield loop
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@pytest.fixture
def run():
    """Run a coroutine on a fresh `EventLoop`; a hang is an error."""

    def run(coroutine):
        async def bounded():
            assert isinstance(asyncio.get_running_loop(), EventLoop)
            return await asyncio.wait_for(coroutine, WAIT)

        with asyncio.Runner(loop_factory=EventLoop) as runner:
            return runner.run(bounded())

    return run


class Records:
    """Part of a protocol: keeps what it is told, and lets one wait for it."""

    def __init__(self):
        self.told = []
        self.changed = asyncio.Event()

    def record(self, *what):
        self.told.append(what)
        self.changed.set()

    def pause_writing(self):
        self.record("paused")

    def resume_writing(self):
        self.record("resumed")

    async def until(self, condition):
        while not condition():
            self.changed.clear()
            await self.changed.wait()


def on(loop_factory):
    """What runs a coroutine on a loop of this kind."""

    def run(coroutine, debug=False):
        with asyncio.Runner(loop_factory=loop_factory, debug=debug) as runner:
            return runner.run(asyncio.wait_for(coroutine, WAIT))

    return run


def reporting(loop_factory):
    """What runs a coroutine function on a loop of this kind, with a list of what its exception handler is told."""

    def run(main):
        reports = []

        async def bounded():
            asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
            return await asyncio.wait_for(main(reports), WAIT)

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(bounded())

    return run


def in_a_caller(coroutine, debug=False):
    """Run a coroutine on a loop that its caller runs."""
    with AsyncioThreadLoop(caller_runs=True, debug=debug) as loop:
        return loop.evaluate(coroutine, timeout=WAIT)


@pytest.fixture(
    params=[on(EventLoop), in_a_caller, on(asyncio.SelectorEventLoop)],
    ids=["EventLoop", "caller_runs", "standard"],
)
def run_everywhere(request):
    """The same on `EventLoop`, on one that callers run, and on the standard loop."""
    return request.param


def connected():
    """Two connected sockets that don't block."""
    pair = socket.socketpair()
    for each in pair:
        each.setblocking(False)
    yield pair
    for each in pair:
        each.close()


pair = pytest.fixture(connected, name="pair")
other_pair = pytest.fixture(connected, name="other_pair")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A file with a certificate for localhost and its key."""
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def contexts(certificate):
    """TLS contexts of a server with that certificate, and of a client that trusts it."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate)
    return server, ssl.create_default_context(cafile=certificate)


@pytest.fixture
def script():
    """Run a program in a process of its own and return what it printed."""

    def script(code):
        prelude = (
            "import asyncio, os, signal, sys, threading, time\n"
            "from asyncio_thread_loop import AsyncioThreadLoop, EventLoop\n"
            # A process started in the background may inherit an ignored SIGINT.
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "def say(*words): os.write(1, (' '.join(map(str, words)) + '\\n').encode())\n"
        )
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-W", "error", "-c", prelude + code],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT,
        )
        assert done.stderr == ""
        assert done.returncode == 0
        return done.stdout.splitlines()

    return script
