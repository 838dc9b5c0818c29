"""Nothing is left behind: threads, descriptors and memory after many calls and many openings.

Run from the root of the repository: `python -m benches.leaks`. Ends with 1 if something grew.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import threading
from collections.abc import Callable
from itertools import repeat
from typing import NamedTuple

from asyncio_thread_loop import AsyncioThreadLoop

from .measuring import resident

#: What allocators may keep for themselves, however long it runs. One byte for each of a million calls, and less than
#: any loop that wasn't freed.
SLACK_BYTES = 1 << 20
SLACK_BLOCKS = 50


class Snapshot(NamedTuple):
    threads: int
    descriptors: int
    #: Blocks that Python's allocator has given out: nearly every object is one.
    blocks: int
    #: Bytes.
    resident: int

    @classmethod
    def take(cls) -> Snapshot:
        in_use = resident()  # collects garbage first
        return cls(
            threading.active_count(), len(os.listdir("/proc/self/fd")), sys.getallocatedblocks(), in_use
        )

    def grew_from(self, before: Snapshot) -> bool:
        return (
            self.threads > before.threads
            or self.descriptors > before.descriptors
            or self.blocks > before.blocks + SLACK_BLOCKS
            or self.resident > before.resident + SLACK_BYTES
        )


async def trivial() -> int:
    return 42


def open_and_close(times: int) -> None:
    for _ in repeat(None, times):
        with AsyncioThreadLoop() as loop:
            loop.submit(asyncio.sleep, 3600)
            loop.evaluate(trivial())


def flat(what: str, work: Callable[[int], object], times: int) -> bool:
    """Prints what there is before and after, and returns whether that is the same."""
    work(times // 10)  # caches, arenas, tables that grow once
    before = Snapshot.take()
    work(times)
    after = Snapshot.take()
    grew = after.grew_from(before)
    for when, snapshot in (("before", before), ("after", after)):
        threads, descriptors, blocks, in_use = snapshot
        row = f"{threads:>8} {descriptors:>12} {blocks:>10,} {in_use / 1024:>12,.0f} KiB"
        print(f"{what:<34} {when:<7}{row}")
    if grew:
        print(f"{what:<34} GREW")
    return not grew


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benches.leaks", description=__doc__)
    parser.add_argument(
        "--cycles", type=int, default=1000, metavar="N", help="times a loop is opened and closed"
    )
    parser.add_argument("--calls", type=int, default=1_000_000, metavar="N", help="calls of each kind")
    options = parser.parse_args()
    print(f"{'':<42}{'threads':>8} {'descriptors':>12} {'blocks':>10} {'resident':>16}")
    with AsyncioThreadLoop() as loop:
        # Fills the lists of freed objects that are kept for reuse, ours of handles and Python's own.
        loop.evaluate_many(asyncio.sleep(0.001) for _ in range(1000))

        def evaluate(times: int) -> None:
            for _ in repeat(None, times):
                loop.evaluate(trivial())

        def submit(times: int) -> None:
            for _ in repeat(None, times // 100):
                for future in [loop.submit(trivial) for _ in repeat(None, 100)]:
                    future.result()

        results = [
            flat(f"{options.calls:,} x evaluate", evaluate, options.calls),
            flat(f"{options.calls:,} x submit and result", submit, options.calls),
        ]
    results.append(flat(f"{options.cycles:,} x open, call, close", open_and_close, options.cycles))
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
