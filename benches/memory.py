"""A coroutine in flight: what it takes of resident memory, with whatever its caller holds. And a thread instead."""

from __future__ import annotations

import asyncio
import gc
import statistics
import threading
from collections.abc import Iterable
from contextlib import contextmanager

from asyncio_thread_loop import EventLoop

from .limits import CREATE_TASK, CREATE_TASK_NATIVE
from .measuring import Required, Table, in_fresh_process, resident, status
from .ways import MODES, NATIVE, ON_STANDARD, STANDARD, WAYS, all_open

THREAD = "threading.Thread"

#: More bytes than a bare task.
ALLOWED = 110

#: So many are handed over before they are let run: what is held meanwhile isn't counted.
BATCH = 100

#: How many at once, and how often that is measured.
COUNTS = {10_000: 3, 100_000: 3, 1_000_000: 1}

#: What a million of ours take, and some more: not every machine has it.
NEEDED = 2 << 30

#: What takes 4 kB for each, and 30 s for a million, isn't asked for one.
STANDARD_UP_TO = 100_000


def measure(quick: bool) -> list[Table]:
    return [in_flight({10_000: 1} if quick else COUNTS), waiting_calls(200 if quick else 2000, 10_000)]


def in_flight(counts: dict[int, int]) -> Table:
    missing = {}
    if max(counts) >= 1_000_000 and available() < NEEDED:
        missing["1,000,000 at once"] = f"not measured: needs {NEEDED >> 30} GiB of free memory"
        counts = {count: repeats for count, repeats in counts.items() if count < 1_000_000}
    bridges = [name for name in (*MODES.values(), ON_STANDARD, STANDARD) if name in WAYS]
    names = [CREATE_TASK, CREATE_TASK_NATIVE, *bridges]
    measured = {name: {count: [] for count in fitting(name, counts)} for name in names}
    for count, repeats in counts.items():
        for _ in range(repeats):
            for name in names:
                if count in measured[name]:
                    measured[name][count].append(in_fresh_process(None, held, name, count) / count)
    rows = {
        name: [statistics.median(by_count[count]) if count in by_count else None for count in counts]
        for name, by_count in measured.items()
    }
    return Table(
        "A coroutine in flight, its future held: bytes of resident memory",
        {f"{count:,} at once": ",.0f" for count in counts},
        rows,
        [
            Required(
                f"bytes more than a bare task, {count:,} at once ({mode})", ours - bare, "at most", ALLOWED
            )
            for mode, name in MODES.items()
            if name in rows
            for count, ours, bare in zip(counts, rows[name], rows[CREATE_TASK], strict=True)
        ],
        missing,
    )


def fitting(name: str, counts: Iterable[int]) -> list[int]:
    return [count for count in counts if name != STANDARD or count <= STANDARD_UP_TO]


def available() -> int:
    """Bytes of memory that could be had without swapping."""
    return machine("MemAvailable")


def machine(name: str) -> int:
    """A size the kernel tells of the whole machine, in bytes."""
    with open("/proc/meminfo") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(f"{name}:"))


async def waiting(event: asyncio.Event) -> None:
    await event.wait()


def held(name: str, count: int) -> int:
    gc.disable()  # it would go through all of them again and again, and find nothing
    if name in (CREATE_TASK, CREATE_TASK_NATIVE):
        return held_by_loop(count, asyncio.SelectorEventLoop if name == CREATE_TASK else EventLoop)
    with all_open([name]) as opened:
        return held_by_bridge(opened.bridges[name].loop, count)


def held_by_loop(count: int, loop_factory) -> int:
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


def held_by_bridge(loop, count: int) -> int:
    warm_up = [None] * BATCH
    let_go(loop, start(loop, warm_up), warm_up)
    futures = [None] * count
    before = resident()
    event = start(loop, futures)
    after = resident()
    let_go(loop, event, futures)
    return after - before


def start(loop, futures: list) -> asyncio.Event:
    """Submits as many as there are places, and has each of them wait."""
    event = asyncio.Event()
    for first in range(0, len(futures), BATCH):
        for index in range(first, min(first + BATCH, len(futures))):
            futures[index] = loop.submit(waiting(event))
        loop.evaluate(asyncio.sleep(0))
    return event


def let_go(loop, event: asyncio.Event, futures: list) -> None:
    async def all_may_end() -> None:
        event.set()

    loop.evaluate(all_may_end())
    for future in futures:
        future.result()


# A call that waits in a thread, in a task, in a coroutine of ours.


def waiting_calls(threads: int, coroutines: int) -> Table:
    """Each with the parts that aren't in its resident memory: of a thread they are the larger ones."""
    rows = {
        THREAD: in_fresh_process(None, threads_held, threads),
        CREATE_TASK: [in_fresh_process(None, held, CREATE_TASK, coroutines) / coroutines, 0, 0],
        NATIVE: [in_fresh_process(None, held, NATIVE, coroutines) / coroutines, 0, 0],
    }
    return Table(
        f"A call that waits, of {threads:,} threads or {coroutines:,} coroutines: bytes",
        {"resident": ",.0f", "page tables": ",.0f", "kernel stack": ",.0f", "together": ",.0f"},
        {name: [*each, sum(each)] for name, each in rows.items()},
    )


def threads_held(count: int) -> list[float]:
    with waiting_threads(100):
        pass
    before = resident(), status("VmPTE"), machine("KernelStack")
    with waiting_threads(count):
        after = resident(), status("VmPTE"), machine("KernelStack")
    return [(held - free) / count for held, free in zip(after, before, strict=True)]


@contextmanager
def waiting_threads(count: int):
    begun, may_end = threading.Barrier(count + 1), threading.Event()

    def wait() -> None:
        begun.wait()
        may_end.wait()

    threads = [threading.Thread(target=wait) for _ in range(count)]
    for thread in threads:
        thread.start()
    begun.wait()
    try:
        yield
    finally:
        may_end.set()
        for thread in threads:
            thread.join()
