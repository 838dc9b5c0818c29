"""Measures event loops and prints. Run from the root of the repository: `python -m benches.io`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from datetime import date
from pathlib import Path

from .. import printing as terminal
from ..__main__ import machine
from ..report import stated
from . import printing
from .cases import TITLES, groups
from .comparison import Comparison, compare, table
from .loops import LOOPS, OURS
from .programs import LOAD, Failed, Places, Programs

#: Rounds, and seconds of a turn.
THOROUGH = (15, 0.2)
QUICK = (3, 0.02)


def main() -> int:
    options = parsed()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # ends what was started, too
    report = {"date": date.today().isoformat(), "machine": machine(), "tables": [], "comparisons": []}
    terminal.show_machine(report)
    loops = [loop for loop in LOOPS if loop == OURS or loop in options.against]
    rounds, seconds = QUICK if options.quick else THOROUGH
    places = placed()
    everything: list[Comparison] = []
    failed = False
    with Programs(places) as programs:
        for name, cases in groups(options.names):
            comparisons = []
            for case in cases:
                try:
                    comparisons.append(compare(programs, case, loops, rounds, seconds))
                except Failed as error:
                    failed = True
                    terminal.show_failure(case.row, places.of(cases), error)
            shown = table(name, comparisons, loops)
            terminal.show(places.of(cases), shown)
            report["tables"].append(stated(name, places.of(cases), shown))
            everything += comparisons
    printing.show(everything)
    report["comparisons"] = [each.stated() for each in everything]
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    if options.plot is not None:
        from . import plots

        plots.draw(report, options.plot)
    if options.readme:
        from . import readme

        readme.write(report)
    return 1 if failed else 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benches.io", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"what to measure, of {', '.join(TITLES)}; default: all"
    )
    parser.add_argument(
        "--against",
        action="append",
        metavar="LOOP",
        help=f"compare with this loop only; may be repeated; of {', '.join(LOOPS)}; default: all",
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds: shows that it works, not how fast it is"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there as well")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="draw the numbers there, as PNG and SVG")
    parser.add_argument(
        "--readme",
        action="store_true",
        help="write the numbers into the documentation, and draw its pictures",
    )
    options = parser.parse_args()
    for given, known in ((options.names, TITLES), (options.against or [], LOOPS)):
        for name in given:
            if name not in known:
                parser.error(f"{name} isn't one of {', '.join(known)}")
    if not LOAD.exists():
        parser.error(f"{LOAD} hasn't been built (`just bench-io` does)")
    options.names = options.names or list(TITLES)
    options.against = options.against or list(LOOPS)
    return options


def placed() -> Places:
    """The load is kept from the processor of what is measured, where there is another."""
    first, *others = sorted(os.sched_getaffinity(0))
    return Places(first, others[0] if others else first)


if __name__ == "__main__":
    sys.exit(main())
