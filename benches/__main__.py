"""Measures and prints. Run from the root of the repository: `python -m benches`."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table as Printed

from . import calls, futures, iteration, memory, throughput
from .measuring import Table, in_fresh_process

#: Where the processor matters, both placements are shown: two processors make every wake-up dearer, one makes
#: threads take turns.
PLACED = {"calls": calls.measure, "throughput": throughput.measure, "iteration": iteration.measure}

SINGLE = {"futures": futures.measure, "memory": memory.measure}

console = Console(highlight=False)
if not console.is_terminal:
    console.width = 100


def main() -> None:
    options = parsed()
    machine = {
        "python": platform.python_version(),
        "uvloop": uvloop.__version__,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processors": len(os.sched_getaffinity(0)),
    }
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()))
    report = []
    for placement, table in tables(options):
        show(placement, table)
        report.append(asdict(table) | {"placement": placement})
        for required, stated in zip(table.required, report[-1]["required"], strict=True):
            stated["holds"] = required.holds
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": machine, "tables": report}, indent=2))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benches", description=__doc__)
    names = [*PLACED, *SINGLE]
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"what to measure, of {', '.join(names)}; default: all"
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds: shows that it works, not how fast it is"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there as well")
    parser.add_argument(
        "--cpu",
        type=int,
        metavar="N",
        help="only pinned to this processor; default: freely placed, then pinned to one",
    )
    options = parser.parse_args()
    for name in options.names:
        if name not in names:
            parser.error(f"{name} isn't one of {', '.join(names)}")
    if options.cpu is not None and options.cpu not in os.sched_getaffinity(0):
        parser.error(f"there is no processor {options.cpu} to run on")
    options.names = options.names or names
    return options


def tables(options: argparse.Namespace) -> Iterator[tuple[str, Table]]:
    chosen = options.cpu
    first = min(os.sched_getaffinity(0))
    for name in options.names:
        both = name in PLACED and chosen is None
        for cpu in (None, first) if both else (chosen,):
            for table in in_fresh_process(cpu, (PLACED | SINGLE)[name], options.quick):
                yield "freely placed" if cpu is None else f"on processor {cpu}", table


def show(placement: str, table: Table) -> None:
    printed = Printed(title=f"{table.title} ({placement})", title_justify="left")
    printed.add_column(no_wrap=True)
    for column in table.columns:
        printed.add_column(column, justify="right")
    for name, values in table.rows.items():
        formats = table.columns.values()
        printed.add_row(name, *(format(value, spec) for value, spec in zip(values, formats, strict=True)))
    console.print()
    console.print(printed)
    for required in table.required:
        verdict = "[green]holds[/]" if required.holds else "[red]missed[/]"
        bound = f"{required.relation} {required.bound:g}"
        console.print(f"{verdict}: {required.measured:.3g} {required.what} ({bound} required)")


if __name__ == "__main__":
    main()
