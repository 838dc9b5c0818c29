"""Whether a call gets dearer the more of them there are."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable

from .limits import CREATE_TASK
from .measuring import Required, Table, in_equal_turns, in_fresh_process, repeated
from .memory import BATCH, fitting, let_go, start, waiting
from .ways import MODES, STANDARD, TRIVIAL, WAYS, all_open

#: Times the cost of the cheapest.
FLAT = 1.3

IN_FLIGHT = (1, 100, 10_000, 100_000, 1_000_000)
BATCHES = (1_000, 10_000, 100_000, 1_000_000)


def measure(quick: bool) -> list[Table]:
    names = [name for name in (*MODES.values(), STANDARD) if name in WAYS]
    return [calls_beside_others(names, quick), many_at_once(names, quick)]


def calls_beside_others(names: list[str], quick: bool) -> Table:
    in_flight = [count for count in IN_FLIGHT if not quick or count <= 10_000]
    rounds, seconds = (3, 0.005) if quick else (15, 0.03)
    rows = {
        name: in_fresh_process(None, beside, name, fitting(name, in_flight), rounds, seconds)
        for name in names
    }
    return table(
        "A trivial coroutine while others are in flight: times what it takes without",
        rows,
        in_flight,
        ".2f",
        [
            Required(f"times what it takes alone, at the most ({mode})", max(rows[name]), "at most", FLAT)
            for mode, name in MODES.items()
            if name in rows
        ],
    )


def beside(name: str, in_flight: list[int], rounds: int, seconds: float) -> list[float]:
    with all_open([name]) as one, all_open([name]) as other:
        loop = one.bridges[name].loop
        ways = {
            "beside others": repeated(one.bridges[name].call(TRIVIAL)),
            "alone": repeated(other.bridges[name].call(TRIVIAL)),
        }
        times, started = [], []
        for count in in_flight:
            gc.disable()
            futures = [None] * (count - sum(len(futures) for _, futures in started))
            started.append((start(loop, futures), futures))
            gc.freeze()  # the collections between the turns needn't go through all of them
            gc.enable()
            turns = in_equal_turns(ways, rounds, seconds)
            times.append(turns["beside others"].times(turns["alone"]))
        for event, futures in started:
            let_go(loop, event, futures)
        return times


def many_at_once(names: list[str], quick: bool) -> Table:
    batches = [count for count in BATCHES if not quick or count <= 10_000]
    rows = {}
    for name in (CREATE_TASK, *names):
        for collecting in (True, False) if name != STANDARD else (True,):
            row = name if collecting else f"{name}, no garbage collection"
            rows[row] = in_fresh_process(None, suspended, name, fitting(name, batches), collecting)
    return table(
        "Submitted, suspended all at once, let go and collected: µs of processor time each",
        rows,
        batches,
        ".2f",
        [
            Required(
                f"times the cheapest, at the most ({mode}{how})", flat(rows[name + how]), "at most", FLAT
            )
            for mode, name in MODES.items()
            if name in rows
            for how in ("", ", no garbage collection")
        ],
    )


def flat(row: list[float]) -> float:
    return max(row) / min(row)


def suspended(name: str, batches: list[int], collecting: bool) -> list[float]:
    """Python's collector goes through all there is again and again, whoever's it is: it can be told to leave it."""
    if not collecting:
        gc.disable()
    if name == CREATE_TASK:
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            return [cheapest(lambda count: runner.run(tasks(count)), count) for count in batches]
    with all_open([name]) as opened:
        loop = opened.bridges[name].loop

        def submitted(count: int) -> None:
            futures = [None] * count
            let_go(loop, start(loop, futures), futures)

        return [cheapest(submitted, count) for count in batches]


def cheapest(work: Callable[[int], object], count: int) -> float:
    """Of some times: what else the machine does only adds."""
    measured = []
    for _ in range(max(1, min(5, 200_000 // count))):
        began = time.process_time()
        work(count)
        measured.append(1e6 * (time.process_time() - began) / count)
    return min(measured)


async def tasks(count: int) -> None:
    event = asyncio.Event()
    waits = []
    for _ in range(count // BATCH):
        waits += [asyncio.create_task(waiting(event)) for _ in range(BATCH)]
        await asyncio.sleep(0)
    event.set()
    for task in waits:
        await task


def table(
    title: str, rows: dict[str, list[float]], counts: list[int], form: str, required: list[Required]
) -> Table:
    wide = {name: [*values, *[None] * (len(counts) - len(values))] for name, values in rows.items()}
    return Table(title, {f"{count:,}": form for count in counts}, wide, required)
