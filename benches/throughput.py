"""Many coroutines at once: submitted, then collected."""

from __future__ import annotations

import concurrent.futures
from functools import partial
from itertools import repeat

from .measuring import Required, Table, in_turns
from .ways import NATIVE, STANDARD, all_open, trivial

MANY = 10_000


def measure(quick: bool) -> list[Table]:
    with all_open() as loops:
        ways = {name: partial(submit_and_collect, loop.submit) for name, loop in loops.items()}
        native, standard = loops[NATIVE], loops[STANDARD]
        waited, standard_waited = f"{NATIVE}, futures.wait", f"{STANDARD}, futures.wait"
        evaluated = f"{NATIVE}, evaluate_many"
        ways |= {
            evaluated: lambda many: native.evaluate_many(trivial() for _ in repeat(None, many)),
            waited: partial(submit_and_wait, native.submit),
            standard_waited: partial(submit_and_wait, standard.submit),
        }
        turns = in_turns(ways, 3 if quick else 11, MANY)
    table = Table(
        f"{MANY:,} coroutines submitted and collected",
        {"coroutines/s": ",.0f", "times ours": ".2f", "switches each": ".3f"},
        {
            name: [1e6 / turn.microseconds, turn.times(turns[NATIVE]), turn.switches[2]]
            for name, turn in turns.items()
        },
        [Required("times the standard way", turns[STANDARD].times(turns[NATIVE]), "at least", 8)],
    )
    return [table]


def submit_and_collect(submit, many: int) -> None:
    futures = [submit(trivial()) for _ in repeat(None, many)]
    for future in futures:
        future.result()


def submit_and_wait(submit, many: int) -> None:
    concurrent.futures.wait([submit(trivial()) for _ in repeat(None, many)])
