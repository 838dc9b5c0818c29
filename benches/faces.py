"""A method of an asynchronous class: through its synchronous face, and through `evaluate` or `call`."""

from __future__ import annotations

from itertools import repeat

from asyncio_thread_loop import AsyncioThreadLoop

from .measuring import Required, Table, in_turns

EVALUATED = "evaluate(client.get(key))"
FACED = "its face: client.get(key)"


class Client:
    async def get(self, key: int) -> int:
        return 42

    def plain_get(self, key: int) -> int:
        return 42


def measure(quick: bool) -> list[Table]:
    rounds, repetitions = (5, 300) if quick else (15, 2000)
    with AsyncioThreadLoop() as loop:
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

        turns = in_turns(
            {
                EVALUATED: evaluated,
                FACED: faced,
                "call(client.plain_get, key)": called,
                "its face: client.plain_get(key)": faced_plain,
            },
            rounds,
            repetitions,
        )
    return [
        Table(
            "The method of an asynchronous class",
            {"µs": ".2f", "times evaluate": ".2f"},
            {name: [turn.microseconds, turn.times(turns[EVALUATED])] for name, turn in turns.items()},
            [Required("times what evaluate takes", turns[FACED].times(turns[EVALUATED]), "at most", 1.3)],
        )
    ]
