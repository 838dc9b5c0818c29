"""How it is measured: in turns, by medians, in fresh processes."""

from __future__ import annotations

import gc
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Literal, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

#: Does the same thing so many times.
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
    """Columns have a format each, rows a name."""

    title: str
    columns: dict[str, str]
    rows: dict[str, list[float]]
    required: list[Required] = field(default_factory=list)


@dataclass
class Turns:
    """What one way took in each round, per repetition: seconds and context switches of the whole process."""

    seconds: list[float] = field(default_factory=list)
    voluntary: list[float] = field(default_factory=list)
    involuntary: list[float] = field(default_factory=list)

    @property
    def microseconds(self) -> float:
        return 1e6 * statistics.median(self.seconds)

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


def in_turns(ways: Mapping[str, Way], rounds: int, repetitions: int) -> dict[str, Turns]:
    """Measures A B C, A B C, ...: what disturbs the machine for a while disturbs all of them."""
    for way in ways.values():
        way(min(repetitions, 100))
    turns = {name: Turns() for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            gc.collect()  # nobody pays for another's garbage
            before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
            way(repetitions)
            ended, after = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
            turn = turns[name]
            turn.seconds.append((ended - began) / repetitions)
            turn.voluntary.append((after.ru_nvcsw - before.ru_nvcsw) / repetitions)
            turn.involuntary.append((after.ru_nivcsw - before.ru_nivcsw) / repetitions)
    return turns


def resident() -> int:
    """Resident memory of this process, in bytes."""
    gc.collect()
    with open("/proc/self/smaps_rollup") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("Rss:"))


def pin(cpu: int | None) -> None:
    """Keeps this process and the threads it will have on one processor."""
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})


def in_fresh_process(cpu: int | None, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls a function in a process that has done nothing else."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=pin, initargs=(cpu,)) as process:
        return process.submit(function, *args, **kwargs).result()
