"""Several threads call at once, each again and again: how many calls get through, and how long one takes."""

from __future__ import annotations

import threading
import time
from itertools import chain

from .measuring import Table, Timed, Took, Turns, percentile
from .ways import NATIVE, STANDARD, TRIVIAL, Bridge, all_open, faster, fastest

THREADS = (1, 8, 64)


def measure(quick: bool) -> list[Table]:
    rounds, seconds = (2, 0.01) if quick else (5, 0.15)
    with all_open() as opened:
        return [measure_threads(opened, threads, rounds, seconds) for threads in THREADS]


def measure_threads(opened, threads: int, rounds: int, seconds: float) -> Table:
    turns = {name: Turns() for name in opened.bridges}
    durations = {name: [] for name in opened.bridges}
    for _ in range(rounds):
        for name, bridge in opened.bridges.items():
            took, each = together(bridge, threads, seconds)
            turns[name].add(Took(took, 0, 0), len(each))
            durations[name] += each
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


def together(bridge: Bridge, threads: int, seconds: float) -> tuple[float, list[float]]:
    """How long so many threads were at it, in seconds, and how long each of their calls took."""
    calls: list[Timed] = []
    began = 0.0

    def start() -> None:
        nonlocal began
        began = time.perf_counter()

    def call_again_and_again() -> None:
        call = bridge.call(TRIVIAL)
        call()
        timed = Timed(call)
        calls.append(timed)
        ready.wait()
        until = began + seconds
        timed(1)  # once at least, also by a thread that isn't let in before it is over
        while time.perf_counter() < until:
            timed(1)

    ready = threading.Barrier(threads, start)
    running = [threading.Thread(target=call_again_and_again) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return time.perf_counter() - began, list(chain.from_iterable(timed.durations for timed in calls))
