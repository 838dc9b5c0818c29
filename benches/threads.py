"""Several threads call at once, each again and again: how many calls get through, and how long one takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import chain, repeat
from math import nan

from .measuring import Table, Timed, Took, Turns, Way, percentile
from .ways import NATIVE, STANDARD, TRIVIAL, Bridge, all_open, faster, fastest

THREADS = (1, 8, 64)

#: Calls between two looks at the clock, where it is to be seen how many get through.
SOME = 16


def measure(quick: bool) -> list[Table]:
    rounds, seconds = (2, 0.01) if quick else (5, 0.15)
    with all_open() as opened:
        return [measure_threads(opened, threads, rounds, seconds) for threads in THREADS]


def measure_threads(opened, threads: int, rounds: int, seconds: float) -> Table:
    turns = {name: Turns() for name in opened.bridges}
    durations = {name: [] for name in opened.bridges}
    for _ in range(rounds):
        for name, bridge in opened.bridges.items():
            turns[name].add(*throughput(bridge, threads, seconds))
            durations[name] += latencies(bridge, threads, seconds)
    required = fastest(turns)
    if threads == 8:
        required += faster(turns, STANDARD, default=8, caller_runs=25)
    return Table(
        f"{threads} calling thread{'s' if threads > 1 else ''}, a trivial coroutine",
        {"calls/s": ",.0f", "times ours": ".2f", "µs, median": ".1f", "99 %": ",.1f", "99.9 %": ",.1f"},
        {
            name: [
                1e6 / turn.microseconds,
                turn.times(turns[NATIVE]),
                *(1e6 * percentile(durations[name], percent) for percent in (50, 99, 99.9)),
            ]
            for name, turn in turns.items()
        },
        required,
        opened.missing,
    )


def throughput(bridge: Bridge, threads: int, seconds: float) -> tuple[Took, int]:
    """How long so many threads were at it, and how many calls they made; nobody looks at the clock for each."""
    made = []

    def caller() -> Way:
        call = warm(bridge)

        def call_some(some: int) -> None:
            for _ in repeat(None, some):
                call()
            made.append(some)

        return call_some

    return Took(together(caller, SOME, threads, seconds), nan, nan), sum(made)


def latencies(bridge: Bridge, threads: int, seconds: float) -> list[float]:
    """How long each call took, in seconds, while so many threads were at it."""
    calls: list[Timed] = []

    def caller() -> Way:
        calls.append(Timed(warm(bridge)))
        return calls[-1]

    together(caller, 1, threads, seconds)
    return list(chain.from_iterable(timed.durations for timed in calls))


def warm(bridge: Bridge) -> Callable[[], object]:
    """A call that this thread has made before."""
    call = bridge.call(TRIVIAL)
    call()
    return call


def together(caller: Callable[[], Way], repetitions: int, threads: int, seconds: float) -> float:
    """Has threads do something for so many seconds, each what `caller` gives it. Returns how long it really took."""
    began = 0.0

    def start() -> None:
        nonlocal began
        began = time.perf_counter()

    def do_again_and_again() -> None:
        way = caller()
        ready.wait()
        until = began + seconds
        way(repetitions)  # once at least, also by a thread that isn't let in before it is over
        while time.perf_counter() < until:
            way(repetitions)

    ready = threading.Barrier(threads, start)
    running = [threading.Thread(target=do_again_and_again) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return time.perf_counter() - began
