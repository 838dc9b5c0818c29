"""`EventLoop` on its own, without the bridge."""

import asyncio
import socket
import subprocess
import sys

import pytest

from asyncio_thread_loop import EventLoop

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


@pytest.fixture
def pair():
    """Two connected sockets that don't block."""
    pair = socket.socketpair()
    for each in pair:
        each.setblocking(False)
    yield pair
    for each in pair:
        each.close()


@pytest.fixture
def script():
    """Run a program in a process of its own and return what it printed."""

    def script(code):
        prelude = (
            "import asyncio, os, signal, sys, threading, time\n"
            "from asyncio_thread_loop import EventLoop\n"
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
