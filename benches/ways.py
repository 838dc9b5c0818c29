"""The loops that are compared, each in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager

import uvloop

from asyncio_thread_loop import AsyncioThreadLoop

NATIVE = "AsyncioThreadLoop"
ON_STANDARD = "AsyncioThreadLoop, standard loop"
ON_UVLOOP = "AsyncioThreadLoop, uvloop"
STANDARD = "run_coroutine_threadsafe"
UVLOOP = "run_coroutine_threadsafe, uvloop"


async def trivial() -> int:
    return 42


class StandardWay:
    """What one writes without this library: a thread that runs a loop, and `run_coroutine_threadsafe`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def submit(self, coro) -> Future:
        return asyncio.run_coroutine_threadsafe(coro, self._loop)

    def evaluate(self, coro):
        return self.submit(coro).result()


@contextmanager
def standard_way(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> Iterator[StandardWay]:
    loop = loop_factory()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield StandardWay(loop)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def all_open() -> Iterator[dict[str, AsyncioThreadLoop | StandardWay]]:
    """Every loop at once: those whose turn it isn't are asleep."""
    with ExitStack() as stack:
        yield {
            NATIVE: stack.enter_context(AsyncioThreadLoop()),
            ON_STANDARD: stack.enter_context(AsyncioThreadLoop(loop_factory=asyncio.SelectorEventLoop)),
            ON_UVLOOP: stack.enter_context(AsyncioThreadLoop(loop_factory=uvloop.new_event_loop)),
            STANDARD: stack.enter_context(standard_way(asyncio.SelectorEventLoop)),
            UVLOOP: stack.enter_context(standard_way(uvloop.new_event_loop)),
        }
