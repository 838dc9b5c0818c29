"""The numbers of a run in the guide's page about the loop: `python -m benches.io.readme FILE` writes them anew."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ..readme import IMAGES, replace
from ..report import Report
from . import plots
from .comparison import PEERS
from .loops import OURS, UVLOOP

NAMES = ("uvloop", "rloop", "aiofastnet")
PICTURES = [(name, title) for name, (title, _) in plots.PICTURES.items()]

PAGE = IMAGES.parent / "guide/event-loop.md"
BEGIN, END = "<!-- the numbers of a run, written by `just bench-io --readme` -->", "<!-- so far -->"


def write(report: Report) -> None:
    plots.draw(report, IMAGES, ["svg"])
    replace(PAGE, BEGIN, END, section(report))


def section(report: Report) -> str:
    machine = report["machine"]
    lines = [
        f"This is the run of {report['date']} on {machine['machine']}, {machine['system']}, CPython",
        f"{machine['CPython']}, {', '.join(f'{name} {machine[name]}' for name in NAMES if name in machine)}.",
        "The last column says whether what is required holds: at least uvloop's rate and at most its processor time,",
        "in some rows 1.2 times better; with TLS also no worse than aiofastnet on uvloop.",
        "",
        *(
            f"![{title}: rates and processor times of loops, times uvloop's](../images/{name}.svg)\n"
            for name, title in PICTURES
        ),
        f"| | {OURS} | {UVLOOP} | of {' | of '.join(PEERS)} | |",
        f"|---|---|---|{'---|' * len(PEERS)}---|",
        *(f"| {' | '.join(cells(row))} |" for row in report["comparisons"]),
        "",
    ]
    return "\n".join(lines)


def cells(row: dict) -> list[str]:
    measured = [row["loops"].get(loop) for loop in (OURS, UVLOOP)]
    ratios = [row["ratios"].get(peer) for peer in PEERS]
    return [
        row["row"],
        *(f"{loop['per s']:,.0f}/s, {loop['processor, µs']:,.2f} µs" if loop else "-" for loop in measured),
        *(f"{ratio['rate']:.2f}, {ratio['processor']:.2f}" if ratio else "-" for ratio in ratios),
        row["verdict"],
    ]


if __name__ == "__main__":
    write(json.loads(Path(sys.argv[1]).read_text()))
