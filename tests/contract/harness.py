"""Callers in threads, coroutines that tell how far they got, and scripts run as real processes.

Every wait in here ends: what takes longer than `WAIT` is a hang and fails the test.
"""

import asyncio
import contextlib
import os
import queue
import signal
import sys
import tempfile
import threading
import time

import pytest

from .process_group import ProcessGroup

WAIT = 20.0
"""Seconds after which a wait counts as a hang."""


class Caller(threading.Thread):
    """A thread that makes one call and keeps what came of it."""

    def __init__(self, fn, *args, **kwargs):
        super().__init__(name=f"caller of {getattr(fn, '__name__', fn)}", daemon=True)
        self._call = (fn, args, kwargs)
        self._value = None
        self._error = None
        self.start()

    def run(self):
        fn, args, kwargs = self._call
        try:
            self._value = fn(*args, **kwargs)
        except BaseException as error:
            self._error = error

    def outcome(self):
        """Return what the call returned, or raise what it raised."""
        self.join(WAIT)
        assert not self.is_alive(), f"{self.name} hangs"
        if self._error is not None:
            raise self._error
        return self._value

    def error(self):
        """Return what the call raised, or None."""
        self.join(WAIT)
        assert not self.is_alive(), f"{self.name} hangs"
        return self._error


class Sleeper:
    """A coroutine function that waits until it is cancelled, then cleans up with an await.

    With a `gate` its cleanup waits until the gate is open. What it waits for is held here, and so its task is too:
    asyncio holds tasks weakly, and one that waits for what nobody else holds is garbage.
    """

    def __init__(self, gate=None):
        self.started = threading.Event()
        self.cancelled = threading.Event()
        self.cleaned = threading.Event()
        self._gate = gate
        self._never = []

    async def __call__(self):
        never = asyncio.Event()
        self._never.append(never)
        self.started.set()
        try:
            await never.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            await asyncio.sleep(0)
            while self._gate is not None and not self._gate.is_set():
                await asyncio.sleep(0.005)
            self.cleaned.set()


class Stubborn:
    """A coroutine function that swallows cancellation until the gate is open, then returns "refused"."""

    def __init__(self, gate, name="stubborn"):
        self.started = threading.Event()
        self.refused = threading.Event()
        self.name = name
        self._gate = gate

    async def __call__(self):
        asyncio.current_task().set_name(self.name)
        self.started.set()
        while not (self._gate.is_set() and self.refused.is_set()):
            try:
                await asyncio.sleep(0.005)
            except asyncio.CancelledError:
                self.refused.set()
        return "refused"


async def answer():
    return 42


async def echo(value):
    await asyncio.sleep(0)
    return value


async def forever():
    await asyncio.Event().wait()


needs_eager_tasks = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="tasks that start eagerly are new in CPython 3.12"
)


def eager(loop, coroutine, **options):
    """A task factory: `asyncio.eager_task_factory`, also for a uvloop that knows it not well enough."""
    return asyncio.Task(coroutine, loop=loop, **{**options, "eager_start": True})


def until(condition):
    """Wait until the condition holds, for what no event tells."""
    ends = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < ends, "it never came true"
        time.sleep(0.001)


@contextlib.contextmanager
def no_thread_left():
    """Every thread that is started in the block has ended a while after it."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + WAIT
    for thread in set(threading.enumerate()) - before:
        thread.join(max(0.0, deadline - time.monotonic()))
    left = [thread.name for thread in set(threading.enumerate()) - before]
    assert not left, f"threads left behind: {left}"


def descriptors():
    """The number of file descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


PRELUDE = """\
import asyncio, concurrent.futures, logging, os, signal, sys, threading, time
from concurrent.futures import CancelledError
from asyncio_thread_loop import (
    AsyncioThreadLoop, DeadlockError, ForkedError, LoopClosedError, get_default_loop, run
)

# A process started in the background may inherit an ignored SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine holds a loop up at any time, and tests look at what is on stderr. Handlers of a script's own are told.
logging.lastResort.addFilter(lambda record: "has been held up" not in record.msg)

LOOP_OPTIONS = {}

def make_loop(**options):
    return AsyncioThreadLoop(**LOOP_OPTIONS, **options)

def say(*words):
    # One write, so that lines of two processes don't mix.
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def say_when_waiting(*words):
    # When the coroutine that calls this awaits something: a signal that comes in answer finds it there.
    asyncio.get_running_loop().call_soon(say, *words)

async def answer():
    return 42
"""

LOOP_OPTIONS = {
    "native": "{}",
    "caller_runs": "{'caller_runs': True}",
    "standard": "{'loop_factory': asyncio.SelectorEventLoop}",
    "uvloop": "{'loop_factory': __import__('uvloop').new_event_loop}",
}


class Script:
    """A Python program in a process of its own, read line by line while it runs."""

    def __init__(self, code, flavour="native"):
        prelude = PRELUDE.replace("LOOP_OPTIONS = {}", f"LOOP_OPTIONS = {LOOP_OPTIONS[flavour]}")
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115 -- closed by `kill`
        command = [sys.executable, "-X", "faulthandler", "-W", "default"]
        # Python 3.12 and later warn about every fork of a process with threads.
        command += ["-W", "ignore::DeprecationWarning", "-c", prelude + code]
        self._processes = ProcessGroup(command, stderr=self._stderr)
        self._fresh = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="script reader", daemon=True)
        self._reader.start()
        self.lines = []

    def _read(self):
        for line in self._processes.stdout:
            self._fresh.put(line.rstrip("\n"))
        self._fresh.put(None)

    @property
    def stderr(self):
        self._stderr.seek(0)
        return self._stderr.read()

    def expect(self, wanted):
        """Wait until the script has printed this line."""
        while wanted not in self.lines:
            if not self._next_line():
                raise AssertionError(f"the script ended without {wanted!r}; {self}")

    def interrupt(self):
        """Press Ctrl-C."""
        self.signal(signal.SIGINT)

    def signal(self, number):
        """Send a signal."""
        self._processes.signal(number)

    def finish(self):
        """Wait until the script and all its children ended; return the exit code."""
        while self._next_line():
            pass
        if (code := self._processes.wait(WAIT)) is None:
            self._fail_hanging()
        return code

    def interrupted_when_ready(self):
        """Press Ctrl-C once it has printed "ready", see it end well, and return all that it printed."""
        self.expect("ready")
        self.interrupt()
        assert self.finish() == 0, self
        return self.lines

    def kill(self):
        self._processes.kill(WAIT)
        self._reader.join(WAIT)
        self._processes.stdout.close()
        self._stderr.close()

    def _next_line(self):
        try:
            line = self._fresh.get(timeout=WAIT)
        except queue.Empty:
            self._fail_hanging()
        if line is None:
            self._fresh.put(None)
            return False
        self.lines.append(line)
        return True

    def _fail_hanging(self):
        # faulthandler answers with the stack of every thread, in the script's children too.
        self._processes.signal_all(signal.SIGABRT)
        self._processes.wait(WAIT)
        raise AssertionError(f"the script hangs; {self}")

    def __repr__(self):
        return f"it printed {self.lines}, on stderr:\n{self.stderr}"
