"""Measures and prints. Run from the root of the repository: `python -m benches`."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from importlib.metadata import PackageNotFoundError, version

from . import calls, faces, futures, iteration, jobs, life, memory, size, threads, throughput
from .measuring import in_fresh_process
from .options import answered, command, put
from .report import FREE, PINNED, stated

#: Where the processor matters, both placements are shown: two processors make every wake-up dearer, one makes
#: threads take turns.
PLACED = {
    "calls": calls.measure,
    "faces": faces.measure,
    "throughput": throughput.measure,
    "threads": threads.measure,
    "iteration": iteration.measure,
}

#: Shown on one processor: what is compared there must not depend on where threads happen to run.
STEADY = {"size": size.measure}

#: Shown freely placed.
SINGLE = {
    "jobs": jobs.measure,
    "life": life.measure,
    "memory": memory.measure,
    "million": throughput.measure_million,
    "futures": futures.measure,
}

ALL = PLACED | STEADY | SINGLE

#: Seconds that one of these may take. What hasn't ended by then is killed, with its threads' stacks on stderr.
PATIENCE = 400
QUICK_PATIENCE = 60

COMPARED = ("uvloop", "rloop", "aiofastnet", "anyio", "asgiref", "fsspec", "synchronicity", "aiohttp")


def main() -> int:
    from . import printing  # only here: every fresh process imports this module

    options = parsed()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # ends what was started, too
    report = {"date": date.today().isoformat(), "machine": machine(), "tables": []}
    printing.show_machine(report)
    failed = False
    for name, placement, cpu in placed(options):
        try:
            tables = in_fresh_process(
                cpu, ALL[name], options.quick, timeout=QUICK_PATIENCE if options.quick else PATIENCE
            )
        except (RuntimeError, TimeoutError) as error:
            failed = True
            printing.show_failure(name, placement, error)
            continue
        for table in tables:
            printing.show(placement, table)
            report["tables"].append(stated(name, placement, table))
    put(report, options, __package__)
    return 1 if failed else 0


def parsed() -> argparse.Namespace:
    parser = command("python -m benches", __doc__, ALL, "write the README's numbers, and draw its pictures")
    parser.add_argument(
        "--cpu",
        type=int,
        metavar="N",
        help="only pinned to this processor; default: freely placed, then pinned to one",
    )
    options = answered(parser, ALL)
    if options.cpu is not None and options.cpu not in os.sched_getaffinity(0):
        parser.error(f"there is no processor {options.cpu} to run on")
    return options


def placed(options: argparse.Namespace) -> Iterator[tuple[str, str, int | None]]:
    """What is measured and where: the placement in words, and the processor."""
    first = min(os.sched_getaffinity(0))
    for name in options.names:
        if options.cpu is not None:
            places = [options.cpu]
        else:
            places = [None] * (name not in STEADY) + [first] * (name not in SINGLE)
        for cpu in places:
            yield name, FREE if cpu is None else PINNED, cpu


def machine() -> dict[str, str]:
    return {
        "CPython": platform.python_version(),
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "machine": f"{len(os.sched_getaffinity(0))} processors, {processor()}",
        **installed(),
    }


def processor() -> str:
    with suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def installed() -> dict[str, str]:
    versions = {}
    for package in COMPARED:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


if __name__ == "__main__":
    sys.exit(main())
