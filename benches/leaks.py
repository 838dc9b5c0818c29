"""Nothing is left behind: threads, descriptors and memory after many calls, openings and connections.

Run from the root of the repository: `python -m benches.leaks`. Ends with 1 if something grew.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import os
import sys
import threading
from collections.abc import Callable
from itertools import repeat
from typing import NamedTuple

from asyncio_thread_loop import AsyncioThreadLoop

from . import connections
from .measuring import resident

#: What allocators may keep for themselves, however long it runs. One byte for each of a million calls, and less than
#: any loop that wasn't freed.
SLACK_BYTES = 1 << 20
SLACK_BLOCKS = 50

NAMES = ("calls", "connections")


class Snapshot(NamedTuple):
    threads: int
    descriptors: int
    #: Blocks that Python's allocator has given out: nearly every object is one.
    blocks: int
    #: Bytes.
    resident: int

    @classmethod
    def take(cls) -> Snapshot:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what malloc only keeps for later isn't in use
        in_use = resident()
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
    """Prints what there is before and after, and returns whether that is the same.

    What has grown is done once more: a leak grows again, what an allocator takes for itself does not.
    """
    work(times // 10)  # caches, arenas, tables that grow once
    for _ in range(2):
        before = Snapshot.take()
        work(times)
        after = Snapshot.take()
        for when, snapshot in (("before", before), ("after", after)):
            threads, descriptors, blocks, in_use = snapshot
            row = f"{threads:>8} {descriptors:>12} {blocks:>10,} {in_use / 1024:>12,.0f} KiB"
            print(f"{what:<34} {when:<7}{row}")
        if not after.grew_from(before):
            return True
        print(f"{what:<34} grew")
    print(f"{what:<34} GREW again")
    return False


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benches.leaks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"what to look at, of {', '.join(NAMES)}; default: all"
    )
    parser.add_argument(
        "--cycles", type=int, default=1000, metavar="N", help="times a loop is opened and closed"
    )
    parser.add_argument("--calls", type=int, default=1_000_000, metavar="N", help="calls of each kind")
    parser.add_argument(
        "--connections",
        type=int,
        default=100_000,
        metavar="N",
        help="connections over TCP; fewer of other kinds",
    )
    options = parser.parse_args()
    for name in options.names:
        if name not in NAMES:
            parser.error(f"{name} isn't one of {', '.join(NAMES)}")
    print(f"{'':<42}{'threads':>8} {'descriptors':>12} {'blocks':>10} {'resident':>16}")
    results = []
    if "calls" in (options.names or NAMES):
        results += measure_calls(options.calls, options.cycles)
    if "connections" in (options.names or NAMES):
        results += connections.measure(options.connections, flat)
    return 0 if all(results) else 1


def measure_calls(calls: int, cycles: int) -> list[bool]:
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
            flat(f"{calls:,} x evaluate", evaluate, calls),
            flat(f"{calls:,} x submit and result", submit, calls),
        ]
    return [*results, flat(f"{cycles:,} x open, call, close", open_and_close, cycles)]


if __name__ == "__main__":
    sys.exit(main())
