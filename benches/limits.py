"""What no bridge can be faster than: the physics of the machine, and Python's."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import repeat
from pathlib import Path

from asyncio_thread_loop import EventLoop

from .measuring import Took, Way, repeated
from .ways import trivial

HANDOVER = "two threads and a futex, no Python"
LOCKS = "two threads and two locks"
SEND = "bare coroutine.send"
CREATE_TASK = "bare create_task, standard loop"
CREATE_TASK_NATIVE = "bare create_task, EventLoop"
BLOCKING_SOCKET = "blocking socket"
TIME_SLEEP = "time.sleep"

RUNNERS = {CREATE_TASK: asyncio.SelectorEventLoop, CREATE_TASK_NATIVE: EventLoop}

#: Where programs of crates/core/examples are when they have been built.
EXAMPLES = (
    Path(os.environ.get("CARGO_TARGET_DIR") or Path(__file__).parent.parent / "target") / "release/examples"
)

#: `just bench` builds it.
HANDOVER_PROGRAM = EXAMPLES / "handover"


@contextmanager
def limits_of_calls(missing: dict[str, str]) -> Iterator[dict[str, Way]]:
    """A coroutine that doesn't wait, two thread switches, and a task."""
    with ExitStack() as stack:
        ways = {SEND: repeated(send)}
        for name, factory in RUNNERS.items():
            ways[name] = partial(create_tasks, stack.enter_context(asyncio.Runner(loop_factory=factory)))
        if HANDOVER_PROGRAM.exists():
            ways[HANDOVER] = stack.enter_context(handover())
        else:
            missing[HANDOVER] = f"not available: {HANDOVER_PROGRAM} hasn't been built (`just bench` does)"
        ways[LOCKS] = stack.enter_context(ping_pong())
        yield ways


def send() -> None:
    try:  # noqa: SIM105  `suppress` would cost more than what is measured
        trivial().send(None)
    except StopIteration:
        pass


def create_tasks(runner: asyncio.Runner, repetitions: int) -> None:
    async def main() -> None:
        for _ in repeat(None, repetitions):
            await asyncio.create_task(trivial())

    runner.run(main())


@contextmanager
def handover() -> Iterator[Way]:
    """Two threads of a Rust program: what the system itself needs for two thread switches."""
    program = [HANDOVER_PROGRAM]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def ask(repetitions: int) -> Took:
            process.stdin.write(f"{repetitions}\n")
            process.stdin.flush()
            return Took(*map(float, process.stdout.readline().split()))

        try:
            yield ask
        finally:
            process.stdin.close()


@contextmanager
def ping_pong() -> Iterator[Way]:
    """Hands a turn over to another thread and gets it back: two thread switches, and the GIL's."""
    ping, pong = threading.Lock(), threading.Lock()
    ping.acquire()
    pong.acquire()
    going = True

    def answer() -> None:
        while True:
            ping.acquire()
            if not going:
                return
            pong.release()

    def ask() -> None:
        ping.release()
        pong.acquire()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield repeated(ask)
    finally:
        going = False
        ping.release()
        thread.join()


def round_trip(connection: socket.socket) -> bytes:
    connection.sendall(b"x")
    return connection.recv(64)
