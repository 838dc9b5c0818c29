"""Measures event loops and prints. Run from the root of the repository: `python -m benches.io`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from datetime import date

from .. import printing as terminal
from ..__main__ import machine
from ..options import among, answered, command, put
from ..report import stated
from . import printing
from .cases import TITLES, groups
from .comparison import Comparison, compare, table
from .loops import LOOPS, OURS
from .programs import LOAD, Failed, Programs

#: Rounds, and seconds of a turn.
THOROUGH = (15, 0.2)
QUICK = (2, 0.01)

#: Of everything, which tables tell.
PLACE = "on one processor"


def main() -> int:
    options = parsed()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # ends what was started, too
    report = {"date": date.today().isoformat(), "machine": machine(), "tables": [], "comparisons": []}
    terminal.show_machine(report)
    loops = [loop for loop in LOOPS if loop == OURS or loop in options.against]
    rounds, seconds = QUICK if options.quick else THOROUGH
    everything: list[Comparison] = []
    failed = False
    with Programs(cpu=min(os.sched_getaffinity(0))) as programs:
        for name, cases in groups(options.names):
            comparisons = []
            for case in cases:
                try:
                    comparisons.append(compare(programs, case, loops, rounds, seconds))
                except Failed as error:
                    failed = True
                    terminal.show_failure(case.row, PLACE, error)
            shown = table(name, comparisons, loops)
            terminal.show(PLACE, shown)
            report["tables"].append(stated(name, PLACE, shown))
            everything += comparisons
    printing.show(everything)
    report["comparisons"] = [each.stated() for each in everything]
    put(report, options, __package__)
    return 1 if failed else 0


def parsed() -> argparse.Namespace:
    parser = command(
        "python -m benches.io",
        __doc__,
        TITLES,
        "write the numbers into the documentation, and draw its pictures",
    )
    parser.add_argument(
        "--against",
        action="append",
        metavar="LOOP",
        help=f"compare with this loop only; may be repeated; of {'; '.join(LOOPS)}; default: all",
    )
    options = answered(parser, TITLES)
    options.against = options.against or list(LOOPS)
    among(parser, options.against, LOOPS)
    loaded = any(case.load for _, cases in groups(options.names) for case in cases)
    if loaded and not LOAD.exists():
        parser.error(f"{LOAD} hasn't been built (`just bench-io` does)")
    return options


if __name__ == "__main__":
    sys.exit(main())
