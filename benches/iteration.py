"""An async generator's items, taken by a thread: one call for each, or many ahead."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from itertools import repeat

from asyncio_thread_loop import AsyncioThreadLoop

from .measuring import Required, Table, in_fresh_process, in_turns, resident
from .ways import NATIVE, ON_STANDARD, ON_UVLOOP, STANDARD, UVLOOP, all_open, trivial

MANY = 1_000_000
AHEAD = 1000

#: Bytes of an item whose memory is looked at.
SIZE = 10_000


def measure(quick: bool) -> list[Table]:
    rounds, repetitions, many = (3, 300, 50_000) if quick else (9, 2000, MANY)
    with all_open((NATIVE, ON_STANDARD, ON_UVLOOP, STANDARD, UVLOOP)) as opened:
        loops = {name: bridge.loop for name, bridge in opened.bridges.items()}
        ours = {name: loops[name] for name in (NATIVE, ON_STANDARD, ON_UVLOOP)}
        standard = {name: loops[name] for name in (STANDARD, UVLOOP)}
        one_by_one = in_turns(
            {
                **{f"iterate, {name}": partial(iterate, loop, 0) for name, loop in ours.items()},
                **{f"evaluate, {name}": partial(evaluate, loop) for name, loop in ours.items()},
                **{f"anext, {name}": partial(ask_each, loop) for name, loop in standard.items()},
            },
            rounds,
            repetitions,
        )
        # Of the slow one there are fewer, in as many rounds: it would take minutes.
        turns = in_turns(
            {
                f"anext, {STANDARD}": lambda share: ask_each(loops[STANDARD], share // 100),
                "bare async for": bare,
                **{
                    f"iterate(prefetch={AHEAD}), {name}": partial(iterate, loop, AHEAD)
                    for name, loop in ours.items()
                },
            },
            rounds,
            many,
        )
    turns[f"anext, {STANDARD}"].seconds = [100 * each for each in turns[f"anext, {STANDARD}"].seconds]
    slow, fast = turns[f"anext, {STANDARD}"], turns[f"iterate(prefetch={AHEAD}), {NATIVE}"]
    alone = one_by_one[f"evaluate, {NATIVE}"]
    growth = in_fresh_process(None, grown, many // 10)
    return [
        Table(
            "An item of an async generator, one call for each",
            {"µs": ".2f", "times evaluate": ".2f"},
            {name: [turn.microseconds, turn.times(alone)] for name, turn in one_by_one.items()},
        ),
        Table(
            f"{many:,} items",
            {"items/s": ",.0f", "times ours": ".2f"},
            {name: [1e6 / turn.microseconds, turn.times(fast)] for name, turn in turns.items()},
            [
                Required("times the item rate of one call for each", slow.times(fast), "at least", 20),
                Required(
                    f"items of {SIZE:,} bytes resident at most, of {many // 10:,} that passed",
                    growth / SIZE,
                    "at most",
                    # Besides those ahead what the allocator keeps.
                    1.5 * AHEAD,
                ),
            ],
        ),
    ]


async def items(many: int):
    for _ in repeat(None, many):
        yield 42


def iterate(loop, prefetch: int, many: int) -> None:
    deque(loop.iterate(items(many), prefetch=prefetch), maxlen=0)


def evaluate(loop, many: int) -> None:
    for _ in repeat(None, many):
        loop.evaluate(trivial())


def ask_each(loop, many: int) -> None:
    generator = items(many)

    async def ask():
        return await anext(generator)

    for _ in repeat(None, many):
        loop.evaluate(ask())


def bare(many: int) -> None:
    async def run():
        async for _ in items(many):
            pass

    asyncio.run(run())


def grown(many: int) -> int:
    """How much the resident memory of a process grows at most while many large items pass through it."""

    async def large():
        for _ in repeat(None, many):
            yield bytearray(SIZE)

    with AsyncioThreadLoop() as loop:
        before = most = resident()
        for number, _ in enumerate(loop.iterate(large(), prefetch=AHEAD)):
            if number % (many // 20) == 0:
                most = max(most, resident())
    return most - before
