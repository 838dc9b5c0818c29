"""One call at a time: a thread hands over a coroutine and waits for its result."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import repeat
from typing import Any

from asyncio_thread_loop import AsyncioThreadLoop, EventLoop

from .measuring import Required, Table, Turns, Way, in_turns
from .ways import NATIVE, STANDARD, UVLOOP, all_open, trivial

SLEEP = 0.001

#: Thread switches per call, of the whole process: by waiting, by being preempted, both.
SWITCHES = {"voluntary": ".2f", "involuntary": ".2f", "switches": ".2f"}


def measure(quick: bool) -> list[Table]:
    rounds, repetitions = (5, 300) if quick else (15, 2000)
    with all_open() as loops, limits() as physical:

        def each(make: Callable[[], Coroutine[Any, Any, Any]]) -> dict[str, Way]:
            return {name: partial(call, loop.evaluate, make) for name, loop in loops.items()}

        at_once = in_turns(each(trivial) | physical, rounds, repetitions)
        yielding = in_turns(each(partial(asyncio.sleep, 0)), rounds, repetitions)
        faced = face_in_turns(loops[NATIVE], rounds, repetitions)
        sleeping = in_turns(each(partial(asyncio.sleep, SLEEP)), rounds, repetitions // 20)
    ours = at_once[NATIVE]
    return [
        compared(
            "A trivial coroutine",
            at_once,
            Required("times faster than on the standard loop", at_once[STANDARD].times(ours), "at least", 6),
            Required("times faster than on uvloop", at_once[UVLOOP].times(ours), "at least", 3),
            # The other work of the machine preempts now and then.
            Required("thread switches", round(ours.switches[2], 1), "at most", 2),
        ),
        Table(
            "The method of an asynchronous class",
            {"µs": ".2f", "times evaluate": ".2f"},
            {name: [turn.microseconds, turn.times(faced[EVALUATED])] for name, turn in faced.items()},
            [Required("times what evaluate takes", faced[FACED].times(faced[EVALUATED]), "at most", 1.3)],
        ),
        compared("await asyncio.sleep(0)", yielding),
        Table(
            "await asyncio.sleep(0.001)",
            {"µs": ".0f", "µs late": ".0f", **SWITCHES},
            {
                name: [turn.microseconds, turn.microseconds - 1e6 * SLEEP, *turn.switches]
                for name, turn in sleeping.items()
            },
        ),
    ]


def compared(title: str, turns: dict[str, Turns], *required: Required) -> Table:
    return Table(
        title,
        {"µs": ".2f", "times ours": ".2f", **SWITCHES},
        {
            name: [turn.microseconds, turn.times(turns[NATIVE]), *turn.switches]
            for name, turn in turns.items()
        },
        [*required],
    )


def call(evaluate, make, repetitions: int) -> None:
    for _ in repeat(None, repetitions):
        evaluate(make())


# The faces of `to_sync`.

EVALUATED = "evaluate(client.get(key))"
FACED = "its face: client.get(key)"


class Client:
    async def get(self, key: int) -> int:
        return 42

    def plain_get(self, key: int) -> int:
        return 42


def face_in_turns(loop: AsyncioThreadLoop, rounds: int, repetitions: int) -> dict[str, Turns]:
    client = Client()
    face = loop.to_sync(client)

    def evaluated(repetitions: int) -> None:
        for _ in repeat(None, repetitions):
            loop.evaluate(client.get(1))

    def faced(repetitions: int) -> None:
        for _ in repeat(None, repetitions):
            face.get(1)

    def called(repetitions: int) -> None:
        for _ in repeat(None, repetitions):
            loop.call(client.plain_get, 1)

    def faced_plain(repetitions: int) -> None:
        for _ in repeat(None, repetitions):
            face.plain_get(1)

    return in_turns(
        {
            EVALUATED: evaluated,
            FACED: faced,
            "call(client.plain_get, key)": called,
            "its face: client.plain_get(key)": faced_plain,
        },
        rounds,
        repetitions,
    )


# What no bridge can be faster than.


@contextmanager
def limits() -> Iterator[dict[str, Way]]:
    with ExitStack() as stack:
        runners = {
            "bare create_task, standard loop": asyncio.SelectorEventLoop,
            "bare create_task, EventLoop": EventLoop,
        }
        yield {
            "bare coroutine.send": send,
            **{
                name: partial(create_tasks, stack.enter_context(asyncio.Runner(loop_factory=factory)))
                for name, factory in runners.items()
            },
            "two threads and two locks": stack.enter_context(ping_pong()),
        }


def send(repetitions: int) -> None:
    for _ in repeat(None, repetitions):
        try:  # noqa: SIM105  `suppress` would cost more than what is measured
            trivial().send(None)
        except StopIteration:
            pass


def create_tasks(runner: asyncio.Runner, repetitions: int) -> None:
    async def main() -> None:
        for _ in repeat(None, repetitions):
            await asyncio.create_task(trivial())

    runner.run(main())


@contextmanager
def ping_pong() -> Iterator[Way]:
    """Hands a turn over to another thread and gets it back: two thread switches."""
    ping, pong = threading.Lock(), threading.Lock()
    ping.acquire()
    pong.acquire()
    going = True

    def answer() -> None:
        while True:
            ping.acquire()
            if not going:
                return
            pong.release()

    def ask(repetitions: int) -> None:
        for _ in repeat(None, repetitions):
            ping.release()
            pong.acquire()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield ask
    finally:
        going = False
        ping.release()
        thread.join()
