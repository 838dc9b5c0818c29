"""Many coroutines at once: submitted, then collected."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import repeat

from asyncio_thread_loop import AsyncioThreadLoop

from .limits import RUNNERS
from .measuring import Table, Way, forget_peak, in_fresh_process, in_turns, resident, status
from .ways import NATIVE, POOL, STANDARD, TRIVIAL, UVLOOP, all_open, faster, fastest, trivial

MANY = 10_000
MILLION = 1_000_000

EVALUATE_MANY = f"{NATIVE}, evaluate_many"
SUBMIT_MANY = f"{NATIVE}, submit_many"
MAP = f"{NATIVE}, map"

Submit = Callable[[], Future]


def waiting(name: str) -> str:
    return f"{name}, futures.wait"


def measure(quick: bool) -> list[Table]:
    many, rounds = (MANY // 10, 3) if quick else (MANY, 7)
    with all_open() as opened, bare() as limits:
        submits = {
            name: bridge.submit(TRIVIAL)
            for name, bridge in opened.bridges.items()
            if hasattr(bridge, "submit")
        }
        waits = [name for name in (NATIVE, STANDARD, UVLOOP, POOL) if name in submits]
        loop = opened.bridges[NATIVE].loop
        ways = {
            **{name: partial(submit_and_collect, submit) for name, submit in submits.items()},
            SUBMIT_MANY: partial(submit_many, loop),
            EVALUATE_MANY: partial(evaluate_many, loop),
            MAP: partial(map_many, loop),
            **{waiting(name): partial(submit_and_wait, submits[name]) for name in waits},
            **limits,
        }
        turns = in_turns(ways, rounds, many)
    waited = {name: turns[waiting(name)] for name in waits}
    required = faster(turns, STANDARD, default=15) + fastest(turns)
    for each in faster(waited, STANDARD, default=8) + fastest(waited):
        each.what += ", futures.wait"
        required.append(each)
    table = Table(
        f"{many:,} coroutines submitted and collected",
        {"coroutines/s": ",.0f", "times ours": ".2f", "switches each": ".3f"},
        {
            name: [1e6 / turn.microseconds, turn.times(turns[NATIVE]), turn.switches[2]]
            for name, turn in turns.items()
        },
        required,
        opened.missing,
    )
    return [table]


def submit_and_collect(submit: Submit, many: int) -> None:
    futures = [submit() for _ in repeat(None, many)]
    for future in futures:
        future.result()


def submit_and_wait(submit: Submit, many: int) -> None:
    concurrent.futures.wait([submit() for _ in repeat(None, many)])


def evaluate_many(loop: AsyncioThreadLoop, many: int) -> None:
    loop.evaluate_many([trivial() for _ in repeat(None, many)])


def submit_many(loop: AsyncioThreadLoop, many: int) -> None:
    for future in loop.submit_many([trivial() for _ in repeat(None, many)]):
        future.result()


def map_many(loop: AsyncioThreadLoop, many: int) -> None:
    async def trivial_of(_: int) -> int:
        return 42

    for _ in loop.map(trivial_of, range(many)):
        pass


@contextmanager
def bare() -> Iterator[dict[str, Way]]:
    """The same without a bridge: tasks of one loop, and `gather`."""

    def gather(runner: asyncio.Runner, many: int) -> None:
        async def main() -> None:
            await asyncio.gather(*(trivial() for _ in repeat(None, many)))

        runner.run(main())

    with ExitStack() as stack:
        yield {
            name.replace("create_task", "gather"): partial(
                gather, stack.enter_context(asyncio.Runner(loop_factory=factory))
            )
            for name, factory in RUNNERS.items()
        }


# A million, each way in a process of its own: for the memory it takes.


def measure_million(quick: bool) -> list[Table]:
    many = MILLION // 50 if quick else MILLION
    names = (NATIVE, EVALUATE_MANY, MAP, waiting(NATIVE), STANDARD)
    rows = {name: in_fresh_process(None, once, name, many) for name in names}
    ours = rows[NATIVE][0]
    table = Table(
        f"{many:,} coroutines submitted and collected, once",
        {"coroutines/s": ",.0f", "times ours": ".2f", "peak memory, MiB": ",.0f"},
        {name: [many / seconds, seconds / ours, peak / 2**20] for name, (seconds, peak) in rows.items()},
    )
    return [table]


def once(name: str, many: int) -> tuple[float, int]:
    """Seconds it takes, and bytes of memory at its peak."""
    with all_open([STANDARD if name == STANDARD else NATIVE]) as opened:
        (bridge,) = opened.bridges.values()
        way = {
            EVALUATE_MANY: partial(evaluate_many, bridge.loop),
            MAP: partial(map_many, bridge.loop),
            waiting(NATIVE): partial(submit_and_wait, bridge.submit(TRIVIAL)),
        }.get(name, partial(submit_and_collect, bridge.submit(TRIVIAL)))
        way(1000)
        before = resident()
        forget_peak()
        began = time.perf_counter()
        way(many)
        return time.perf_counter() - began, status("VmHWM") - before
