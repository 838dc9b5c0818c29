"""Whether a call gets dearer the more of them there are."""

from __future__ import annotations

import gc
import time

from .measuring import Required, Table, in_equal_turns, in_fresh_process, repeated
from .memory import fitting, let_go, start
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
            futures = [None] * (count - sum(len(futures) for _, futures in started))
            started.append((start(loop, futures), futures))
            gc.collect()
            gc.freeze()  # the collections between the turns needn't go through all of them
            turns = in_equal_turns(ways, rounds, seconds)
            times.append(turns["beside others"].times(turns["alone"]))
        for event, futures in started:
            let_go(loop, event, futures)
        return times


def many_at_once(names: list[str], quick: bool) -> Table:
    batches = [count for count in BATCHES if not quick or count <= 10_000]
    rows = {
        name: in_fresh_process(None, suspended, name, fitting(name, batches), 1 if quick else 5)
        for name in names
    }
    return table(
        "Submitted, suspended all at once, let go and collected: µs each",
        rows,
        batches,
        ".2f",
        [
            Required(
                f"times the cheapest, at the most ({mode})",
                max(rows[name]) / min(rows[name]),
                "at most",
                FLAT,
            )
            for mode, name in MODES.items()
            if name in rows
        ],
    )


def suspended(name: str, batches: list[int], repeats: int) -> list[float]:
    with all_open([name]) as opened:
        loop = opened.bridges[name].loop

        def once(count: int) -> float:
            began = time.perf_counter()
            futures = [None] * count
            let_go(loop, start(loop, futures), futures)
            return 1e6 * (time.perf_counter() - began) / count

        once(1000)
        # The best of some: what else the machine does only adds.
        return [min(once(count) for _ in range(repeats if count < 1_000_000 else 1)) for count in batches]


def table(
    title: str, rows: dict[str, list[float]], counts: list[int], form: str, required: list[Required]
) -> Table:
    wide = {name: [*values, *[None] * (len(counts) - len(values))] for name, values in rows.items()}
    return Table(title, {f"{count:,}": form for count in counts}, wide, required)
