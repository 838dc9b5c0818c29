"""One call at a time: a thread hands over a coroutine and waits for its result."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from .limits import BLOCKING_SOCKET, HANDOVER, SEND, TIME_SLEEP, limits_of_calls, round_trip
from .measuring import Required, Table, Timed, Turns, in_equal_turns, percentile, repeated
from .servers import connect, server
from .ways import MODES, NATIVE, STANDARD, TRIVIAL, UVLOOP, Opened, Work, all_open, faster, fastest, near

SLEEP = 0.001

#: Thread switches per call, of the whole process: by waiting, by being preempted, both.
SWITCHES = {"voluntary": ".2f", "involuntary": ".2f", "switches": ".2f"}


async def yielding() -> None:
    await asyncio.sleep(0)


async def sleeping() -> None:
    await asyncio.sleep(SLEEP)


YIELDING = Work(yielding, os.sched_yield)
SLEEPING = Work(sleeping, partial(time.sleep, SLEEP))


def measure(quick: bool) -> list[Table]:
    rounds, seconds = (3, 0.005) if quick else (11, 0.03)
    with all_open() as opened:
        return [
            a_trivial_one(opened, rounds, seconds),
            one_that_yields(opened, rounds, seconds),
            a_round_trip(opened, rounds, seconds),
            a_sleep(opened, rounds, 2 * seconds),
        ]


def compared(title: str, turns: dict[str, Turns], required: list[Required], missing: dict[str, str]) -> Table:
    return Table(
        title,
        {"µs": ".2f", "times ours": ".2f", **SWITCHES},
        {
            name: [turn.microseconds, turn.times(turns[NATIVE]), *turn.switches]
            for name, turn in turns.items()
        },
        [*required, *fastest(turns)],
        missing,
    )


def a_trivial_one(opened: Opened, rounds: int, seconds: float) -> Table:
    missing = {}
    with limits_of_calls(missing) as limits:
        turns = in_equal_turns(opened.calling(TRIVIAL, missing) | limits, rounds, seconds)
    required = [
        *faster(turns, STANDARD, default=10, caller_runs=35),
        *faster(turns, UVLOOP, default=6, caller_runs=20),
        *near(turns, HANDOVER, default=1.6),
        *near(turns, SEND, caller_runs=2.2),
        # The other work of the machine preempts now and then.
        Required("thread switches", round(turns[NATIVE].switches[2], 1), "at most", 2),
    ]
    return compared("A trivial coroutine", turns, required, missing)


def one_that_yields(opened: Opened, rounds: int, seconds: float) -> Table:
    missing = {}
    turns = in_equal_turns(opened.calling(YIELDING, missing), rounds, seconds)
    return compared("await asyncio.sleep(0)", turns, [], missing)


def a_round_trip(opened: Opened, rounds: int, seconds: float) -> Table:
    missing = {}
    with ExitStack() as stack:
        port = stack.enter_context(server("echo"))
        works = {name: stack.enter_context(round_trips(port)) for name in opened.bridges}
        limit = stack.enter_context(round_trips(port)).plain
        ways = opened.calling(works, missing) | {BLOCKING_SOCKET: repeated(limit)}
        turns = in_equal_turns(ways, rounds, seconds)
    required = near(turns, BLOCKING_SOCKET, default=2, caller_runs=1.6)
    return compared("A byte to an echo server in another process, and back", turns, required, missing)


@contextmanager
def round_trips(port: int) -> Iterator[Work]:
    """With a connection of its own. What makes a loop for each call can use it, too."""
    with connect(port) as blocking, connect(port) as connection:
        connection.setblocking(False)

        async def exchange() -> bytes:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(connection, b"x")
            return await loop.sock_recv(connection, 64)

        yield Work(exchange, partial(round_trip, blocking))


def a_sleep(opened: Opened, rounds: int, seconds: float) -> Table:
    missing = {}
    # The clock is read in there, too, to say how late each single one is.
    calls = {name: Timed(call) for name, call in opened.calls(SLEEPING, missing).items()}
    calls[TIME_SLEEP] = Timed(SLEEPING.plain)
    turns = in_equal_turns(calls, rounds, seconds)
    late = {name: [1e6 * (taken - SLEEP) for taken in call.durations] for name, call in calls.items()}
    return Table(
        "await asyncio.sleep(0.001)",
        {"µs late, median": ".0f", "µs late, 99 %": ".0f", **SWITCHES},
        {
            name: [statistics.median(late[name]), percentile(late[name], 99), *turn.switches]
            for name, turn in turns.items()
        },
        [
            Required(f"µs late at the median ({mode})", statistics.median(late[name]), "at most", 150)
            for mode, name in MODES.items()
            if name in late
        ],
        missing,
    )
