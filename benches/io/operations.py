"""What a loop under test does without a network: `python -m benches.io.operations LOOP`.

Each line of the input is the name of an operation and how often to do it. The answer is a line with the seconds it
took and the processor time of this process and of those it has started, or why the loop can't do it. Ends with its
input.
"""

from __future__ import annotations

import asyncio
import random
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from itertools import repeat

from .loops import LOOPS, MODULES, Factory

#: What is scheduled, made or started before it is waited for, where it is "at once".
BATCH = 100

#: Timers that run at once.
TIMERS = 10_000

#: They are due within so many seconds, in no order. To make them takes longer.
SPREAD = 0.001


class Operations:
    def __init__(self, name: str, factory: Factory, runner: asyncio.Runner) -> None:
        self.name = name
        self.factory = factory
        self.runner = runner

    def do(self, operation: str, repetitions: int) -> str:
        """The seconds, and the processor time."""
        asynchronous = ASYNCHRONOUS.get(operation)
        if asynchronous is None:
            before, began = processor_time(), time.perf_counter()
            SYNCHRONOUS[operation](self, repetitions)
            return f"{time.perf_counter() - began} {processor_time() - before}"

        async def timed() -> str:
            before, began = processor_time(), time.perf_counter()
            await asynchronous(asyncio.get_running_loop(), repetitions)
            return f"{time.perf_counter() - began} {processor_time() - before}"

        return self.runner.run(timed())

    def start_up(self, repetitions: int) -> None:
        for _ in repeat(None, repetitions):
            loop = self.factory()
            loop.run_until_complete(trivial())
            loop.close()

    def import_it(self, repetitions: int) -> None:
        for _ in repeat(None, repetitions):
            subprocess.run([sys.executable, "-I", "-c", f"import {MODULES[self.name]}"], check=True)


def processor_time() -> float:
    """With that of processes which have ended and been waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def nothing() -> None:
    pass


async def trivial() -> None:
    pass


async def call_soon(loop: asyncio.AbstractEventLoop, repetitions: int) -> None:
    for batch in batches(repetitions, BATCH):
        for _ in repeat(None, batch):
            loop.call_soon(nothing)
        await asyncio.sleep(0)


async def call_later(loop: asyncio.AbstractEventLoop, repetitions: int) -> None:
    delays = [SPREAD * random.random() for _ in range(TIMERS)]
    for batch in batches(repetitions, TIMERS):
        count = Count(loop, batch)
        for delay in delays[:batch]:
            loop.call_later(delay, count)
        await count.down


class Count:
    """Ends when it has been called so many times."""

    def __init__(self, loop: asyncio.AbstractEventLoop, calls: int) -> None:
        self._rest = calls
        self.down = loop.create_future()

    def __call__(self) -> None:
        self._rest -= 1
        if not self._rest:
            self.down.set_result(None)


async def cancel(loop: asyncio.AbstractEventLoop, repetitions: int) -> None:
    """Timeouts that are not needed: most timers of most programs."""
    for batch in batches(repetitions, BATCH):
        for timer in [loop.call_later(60, nothing) for _ in repeat(None, batch)]:
            timer.cancel()
        await asyncio.sleep(0)


async def create_task(loop: asyncio.AbstractEventLoop, repetitions: int) -> None:
    for _ in repeat(None, repetitions):
        await loop.create_task(trivial())


async def gather(loop: asyncio.AbstractEventLoop, repetitions: int) -> None:
    for batch in batches(repetitions, BATCH):
        await asyncio.gather(*(trivial() for _ in repeat(None, batch)))


async def sleep(loop: asyncio.AbstractEventLoop, repetitions: int) -> None:
    for _ in repeat(None, repetitions):
        await asyncio.sleep(0)


async def threadsafe(loop: asyncio.AbstractEventLoop, repetitions: int) -> None:
    """As fast as a thread can, while the loop runs what it has got."""
    done = asyncio.Event()

    def call() -> None:
        for _ in repeat(None, repetitions):
            loop.call_soon_threadsafe(nothing)
        loop.call_soon_threadsafe(done.set)

    await in_thread(call, done)


async def threadsafe_answered(loop: asyncio.AbstractEventLoop, repetitions: int) -> None:
    """The next one when the loop has run the last: each finds it asleep."""
    done = asyncio.Event()
    answered = threading.Lock()
    answered.acquire()

    def call() -> None:
        for _ in repeat(None, repetitions):
            loop.call_soon_threadsafe(answered.release)
            answered.acquire()
        loop.call_soon_threadsafe(done.set)

    await in_thread(call, done)


async def in_thread(call: Callable[[], None], done: asyncio.Event) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    await done.wait()
    thread.join()


async def executor(loop: asyncio.AbstractEventLoop, repetitions: int) -> None:
    for _ in repeat(None, repetitions):
        await loop.run_in_executor(None, nothing)


async def executor_at_once(loop: asyncio.AbstractEventLoop, repetitions: int) -> None:
    for batch in batches(repetitions, BATCH):
        await asyncio.gather(*(loop.run_in_executor(None, nothing) for _ in repeat(None, batch)))


async def spawn(loop: asyncio.AbstractEventLoop, repetitions: int) -> None:
    program = shutil.which("true")
    for _ in repeat(None, repetitions):
        process = await asyncio.create_subprocess_exec(program)
        if await process.wait():
            raise RuntimeError(f"{program} has failed")


def batches(repetitions: int, most: int) -> list[int]:
    whole, rest = divmod(repetitions, most)
    return [most] * whole + [rest] * (rest > 0)


ASYNCHRONOUS: dict[str, Callable[[asyncio.AbstractEventLoop, int], Awaitable[None]]] = {
    each.__name__: each
    for each in (
        call_soon,
        call_later,
        cancel,
        create_task,
        gather,
        sleep,
        threadsafe,
        threadsafe_answered,
        executor,
        executor_at_once,
        spawn,
    )
}

SYNCHRONOUS: dict[str, Callable[[Operations, int], None]] = {
    each.__name__: each for each in (Operations.start_up, Operations.import_it)
}


def main(name: str) -> None:
    factory = LOOPS[name]()
    with asyncio.Runner(loop_factory=factory) as runner:
        operations = Operations(name, factory, runner)
        print("ready", flush=True)
        for line in sys.stdin:
            operation, repetitions = line.split()
            try:
                answer = operations.do(operation, int(repetitions))
            except Exception as error:
                answer = f"failed {type(error).__name__}: {error}"
            print(answer, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
