"""A `Future` by itself, against the plain class."""

from __future__ import annotations

import concurrent.futures
import statistics
import sys
from functools import partial
from itertools import repeat

from asyncio_thread_loop import Future

from .measuring import Required, Table, in_fresh_process, in_turns, resident

CLASSES = {"Future": Future, "concurrent.futures.Future": concurrent.futures.Future}

HELD = 100_000


def measure(quick: bool) -> list[Table]:
    rounds, repetitions, repeats = (5, 10_000, 1) if quick else (25, 50_000, 3)
    turns = in_turns(
        {name: partial(create_and_drop, kind) for name, kind in CLASSES.items()}, rounds, repetitions
    )
    ours, plain = turns.values()
    table = Table(
        "A future created and dropped",
        {"µs": ".3f", "of the plain one": ".3f", "sizeof, bytes": ".0f", "resident, bytes": ",.0f"},
        {
            name: [
                turn.microseconds,
                turn.times(plain),
                sys.getsizeof(CLASSES[name]()),
                statistics.median(in_fresh_process(None, held, name) / HELD for _ in range(repeats)),
            ]
            for name, turn in turns.items()
        },
        [Required("of the plain one's time", ours.times(plain), "at most", 0.1)],
    )
    return [table]


def create_and_drop(kind: type, repetitions: int) -> None:
    for _ in repeat(None, repetitions):
        kind()


def held(name: str) -> int:
    kind = CLASSES[name]
    kind()
    futures = [None] * HELD
    before = resident()
    for index in range(HELD):
        futures[index] = kind()
    return resident() - before
