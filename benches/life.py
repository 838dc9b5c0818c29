"""What it takes to open a way and to close it, and what it burns while nobody calls."""

from __future__ import annotations

import resource
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median

from .measuring import Table, in_fresh_process
from .ways import ASGIREF, FSSPEC, NATIVE, SYNCHRONICITY, TRIVIAL, WAYS, all_open

#: What they run lives as long as the process, or as the call.
NEVER_CLOSED = (ASGIREF, FSSPEC, SYNCHRONICITY)


def measure(quick: bool) -> list[Table]:
    return [opening_and_closing(5 if quick else 200), idling(0.2 if quick else 3)]


def opening_and_closing(rounds: int) -> Table:
    with all_open() as opened:  # which can be, and their modules imported
        names = [name for name in opened.bridges if name not in NEVER_CLOSED]
    phases = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            phases[name].append(open_call_close(name))
    medians = {
        name: [1e6 * median(phase) for phase in zip(*each, strict=True)] for name, each in phases.items()
    }
    return Table(
        "Opened, called once, closed",
        {"open, µs": ".0f", "first call, µs": ".0f", "close, µs": ".0f", "times ours": ".2f"},
        {name: [*each, sum(each) / sum(medians[NATIVE])] for name, each in medians.items()},
        missing={name: reason for name, reason in opened.missing.items() if name not in NEVER_CLOSED},
    )


def open_call_close(name: str) -> tuple[float, float, float]:
    began = time.perf_counter()
    with WAYS[name]() as bridge:
        opened = time.perf_counter()
        bridge.call(TRIVIAL)()
        called = time.perf_counter()
    closed = time.perf_counter()
    return opened - began, called - opened, closed - called


def idling(seconds: float) -> Table:
    with ThreadPoolExecutor(len(WAYS)) as at_once:  # they do nothing, and don't disturb each other
        idle = dict(
            zip(
                WAYS,
                at_once.map(lambda name: in_fresh_process(None, idle_for, name, seconds), WAYS),
                strict=True,
            )
        )
    return Table(
        f"Open and idle for {seconds:g} s",
        {"processor time, µs per s": ",.0f", "wake-ups per s": ".1f"},
        {name: each for name, each in idle.items() if each is not None},
    )


def idle_for(name: str, seconds: float) -> list[float] | None:
    with all_open([name]) as opened:
        if not opened.bridges:
            return None
        time.sleep(0.1)
        before, switches = time.process_time(), voluntary()
        time.sleep(seconds)
        burnt, woken = time.process_time() - before, voluntary() - switches
        # One of them is this thread's own.
        return [1e6 * burnt / seconds, (woken - 1) / seconds]


def voluntary() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
