"""A coroutine in flight: what it takes of resident memory, with whatever its caller holds."""

from __future__ import annotations

import asyncio
import statistics

from asyncio_thread_loop import AsyncioThreadLoop, EventLoop

from .measuring import Required, Table, in_fresh_process, resident
from .ways import NATIVE, STANDARD, standard_way

BARE = "bare create_task, standard loop"
BARE_NATIVE = "bare create_task, EventLoop"

#: More bytes than a bare task.
ALLOWED = 150

#: So many are handed over before they are let run: what is held meanwhile isn't counted.
BATCH = 100


def measure(quick: bool) -> list[Table]:
    counts, repeats = ([20_000], 1) if quick else ([20_000, 100_000], 5)
    ways = {BARE: bare, BARE_NATIVE: bare_on_native, NATIVE: submitted, STANDARD: submitted_standard}
    measured = {name: [[] for _ in counts] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            for index, count in enumerate(counts):
                measured[name][index].append(in_fresh_process(None, way, count) / count)
    rows = {name: [statistics.median(column) for column in columns] for name, columns in measured.items()}
    table = Table(
        "A coroutine in flight, its future held: bytes of resident memory",
        {f"{count:,} at once": ",.0f" for count in counts},
        rows,
        [
            Required(f"bytes more than a bare task, {count:,} at once", ours - bare, "at most", ALLOWED)
            for count, ours, bare in zip(counts, rows[NATIVE], rows[BARE], strict=True)
        ],
    )
    return [table]


async def waiting(event: asyncio.Event) -> None:
    await event.wait()


def bare(count: int, loop_factory=asyncio.SelectorEventLoop) -> int:
    async def started(tasks: list[asyncio.Task | None]) -> asyncio.Event:
        event = asyncio.Event()
        for first in range(0, len(tasks), BATCH):
            for index in range(first, first + BATCH):
                tasks[index] = asyncio.create_task(waiting(event))
            await asyncio.sleep(0)
        return event

    async def main() -> int:
        warm_up = [None] * BATCH
        (await started(warm_up)).set()
        await asyncio.gather(*warm_up)
        tasks = [None] * count
        before = resident()
        event = await started(tasks)
        after = resident()
        event.set()
        await asyncio.wait(tasks)
        return after - before

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(main())


def bare_on_native(count: int) -> int:
    return bare(count, EventLoop)


def submitted(count: int) -> int:
    with AsyncioThreadLoop() as loop:
        return held(loop, count)


def submitted_standard(count: int) -> int:
    with standard_way(asyncio.SelectorEventLoop) as loop:
        return held(loop, count)


def held(loop, count: int) -> int:
    def started(futures: list) -> asyncio.Event:
        event = asyncio.Event()
        for first in range(0, len(futures), BATCH):
            for index in range(first, first + BATCH):
                futures[index] = loop.submit(waiting(event))
            loop.evaluate(asyncio.sleep(0))
        return event

    def finish(event: asyncio.Event, futures: list) -> None:
        async def let_go() -> None:
            event.set()

        loop.evaluate(let_go())
        for future in futures:
            future.result()

    warm_up = [None] * BATCH
    finish(started(warm_up), warm_up)
    futures = [None] * count
    before = resident()
    event = started(futures)
    after = resident()
    finish(event, futures)
    return after - before
