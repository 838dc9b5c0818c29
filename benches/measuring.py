"""How it is measured: in turns, by medians, in fresh processes that can't outlive their time."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import logging
import multiprocessing
import os
import resource
import signal
import statistics
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import repeat
from math import isnan, nan
from typing import Any, Literal, NamedTuple, TypeVar

T = TypeVar("T")

#: Does the same thing so many times. May return what it `Took`, if it isn't this process that does it.
Way = Callable[[int], object]


@dataclass
class Required:
    """What a ratio or a size has to be."""

    what: str
    measured: float
    relation: Literal["at least", "at most"]
    bound: float

    @property
    def holds(self) -> bool:
        if self.relation == "at least":
            return self.measured >= self.bound
        return self.measured <= self.bound


@dataclass
class Table:
    """Columns have a format each, rows a name. None is a cell for which there is no number."""

    title: str
    columns: dict[str, str]
    rows: dict[str, list[float | None]]
    required: list[Required] = field(default_factory=list)
    #: Ways that couldn't be measured, and why.
    missing: dict[str, str] = field(default_factory=dict)


class Took(NamedTuple):
    seconds: float
    voluntary: float
    involuntary: float
    #: Seconds of processor, where they are counted.
    processor: float = nan


@dataclass
class Turns:
    """What one way took in each round, per repetition: seconds, context switches and processor time of the process."""

    seconds: list[float] = field(default_factory=list)
    voluntary: list[float] = field(default_factory=list)
    involuntary: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    @property
    def microseconds(self) -> float:
        return 1e6 * statistics.median(self.seconds)

    @property
    def processor_microseconds(self) -> float:
        return 1e6 * statistics.median(self.processor)

    @property
    def switches(self) -> tuple[float, float, float]:
        """Voluntary, involuntary, both. A thread that is preempted by the one it wakes switches involuntarily."""
        total = [sum(both) for both in zip(self.voluntary, self.involuntary, strict=True)]
        return (
            statistics.median(self.voluntary),
            statistics.median(self.involuntary),
            statistics.median(total),
        )

    def times(self, other: Turns) -> float:
        """How many times longer this way takes: the median of what each round says."""
        return statistics.median(mine / its for mine, its in zip(self.seconds, other.seconds, strict=True))

    def processor_times(self, other: Turns) -> float:
        """The same of processor time."""
        return statistics.median(
            mine / its for mine, its in zip(self.processor, other.processor, strict=True)
        )

    def add(self, took: Took, repetitions: int) -> None:
        self.seconds.append(took.seconds / repetitions)
        self.voluntary.append(took.voluntary / repetitions)
        self.involuntary.append(took.involuntary / repetitions)
        self.processor.append(took.processor / repetitions)


def in_turns(ways: Mapping[str, Way], rounds: int, repetitions: int) -> dict[str, Turns]:
    """Measures A B C, A B C, ...: what disturbs the machine for a while disturbs all of them."""
    for way in ways.values():
        way(min(repetitions, 100))
    return _in_turns(ways, rounds, dict.fromkeys(ways, repetitions))


def in_equal_turns(ways: Mapping[str, Way], rounds: int, seconds: float) -> dict[str, Turns]:
    """The same with turns of about so many seconds each: the slow do less, and hold nobody up."""
    return _in_turns(ways, rounds, {name: _fitting(way, seconds) for name, way in ways.items()})


def _fitting(way: Way, seconds: float) -> int:
    """How often it can be done in so many seconds. Warms it up, too."""
    repetitions = 1
    while True:
        # Twice, before it is taken to be slow: it may only have been held up.
        if (spent := _spent(way, repetitions)) > seconds / 4:
            spent = min(spent, _spent(way, repetitions))
        if spent > seconds / 4:
            return max(1, round(repetitions * seconds / spent))
        repetitions *= 4


def _spent(way: Way, repetitions: int) -> float:
    """Seconds that count: processor time where it is known, or a third of all, if others held it up for longer."""
    took = _timed(way, repetitions)
    return took.seconds if isnan(took.processor) else max(took.processor, took.seconds / 3)


def _in_turns(ways: Mapping[str, Way], rounds: int, repetitions: Mapping[str, int]) -> dict[str, Turns]:
    turns = {name: Turns() for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            gc.collect()  # nobody pays for another's garbage
            turns[name].add(_timed(way, repetitions[name]), repetitions[name])
    return turns


def _timed(way: Way, repetitions: int) -> Took:
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    took = way(repetitions)
    ended, after = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    if isinstance(took, Took):
        return took
    return Took(ended - began, after.ru_nvcsw - before.ru_nvcsw, after.ru_nivcsw - before.ru_nivcsw)


def repeated(call: Callable[[], object]) -> Way:
    def calls(repetitions: int) -> None:
        for _ in repeat(None, repetitions):
            call()

    return calls


class Timed:
    """Makes a call again and again, and keeps how long each of them took, in seconds."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self.durations: list[float] = []

    def __call__(self, repetitions: int) -> None:
        call, keep, now = self._call, self.durations.append, time.perf_counter
        for _ in repeat(None, repetitions):
            began = now()
            call()
            keep(now() - began)


def percentile(values: Iterable[float], percent: float) -> float:
    """The value that so many percent of them are at or below."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def resident() -> int:
    """Resident memory of this process, in bytes."""
    gc.collect()
    with open("/proc/self/smaps_rollup") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("Rss:"))


def status(name: str) -> int:
    """A size the kernel tells of this process, in bytes: `VmHWM`, the peak of resident memory; `VmPTE`, page tables."""
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(f"{name}:"))


def forget_peak() -> None:
    """From here on `VmHWM` is the peak since now."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def pin(cpu: int | None) -> None:
    """Keeps this process and the threads it will have on one processor."""
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})


def in_fresh_process(
    cpu: int | None, function: Callable[..., T], *args: Any, timeout: float | None = None
) -> T:
    """Calls a function in a process that has done nothing else.

    When it has returned, or after `timeout` seconds, the process is killed, with all that it started. Raises
    `TimeoutError` then (and its threads' stacks have been written to stderr), `RuntimeError` if the function failed.
    """
    spawn = multiprocessing.get_context("spawn")
    leads = multiprocessing.parent_process() is None  # what a fresh process starts in turn stays in its group
    receiving, sending = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_answer, args=(sending, leads, cpu, timeout, function, args))
    process.start()
    sending.close()
    try:
        if not receiving.poll(timeout):
            raise TimeoutError(f"not done within {timeout:g} s")
        result, error = receiving.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"the process ended with {process.exitcode}") from None
    finally:
        if leads:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()
        receiving.close()
    if error is not None:
        raise RuntimeError(error)
    return result


def _answer(sending, leads: bool, cpu: int | None, timeout: float | None, function, args) -> None:
    if leads:
        os.setpgrp()
    # Nor does it outlive the one that waits for it.
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    pin(cpu)
    logging.disable()  # on a busy machine the watchdog has much to say
    if timeout is not None:
        faulthandler.dump_traceback_later(0.9 * timeout)
    try:
        sending.send((function(*args), None))
    except BaseException:
        sending.send((None, traceback.format_exc()))
