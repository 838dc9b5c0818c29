"""The section of the README that tells the numbers of a run: `python -m benches.readme FILE` writes it anew."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from . import plots
from .limits import CREATE_TASK
from .memory import THREAD
from .report import FREE, PINNED, Report, column
from .ways import NATIVE, STANDARD, UVLOOP

README = Path(__file__).parent.parent / "README.md"
IMAGES = README.parent / "docs/images"
BEGIN, END = "<!-- the numbers of a run, written by `just bench --readme` -->", "<!-- so far -->"

PLAIN = "concurrent.futures.Future"

#: What a line is about; the table, its column, and how a number is written; whether it says how many times slower.
LINES = [
    ("`evaluate` of a trivial coroutine", "A trivial coroutine", "µs", "{:.1f} µs", True),
    ("thread switches in it", "A trivial coroutine", "switches", "{:.1f}", False),
    ("a byte to an echo server and back", "A byte to an echo server", "µs", "{:.0f} µs", True),
    (
        "`asyncio.sleep(0.001)` returns late by",
        "await asyncio.sleep(0.001)",
        "µs late, median",
        "{:.0f} µs",
        False,
    ),
    (
        "10,000 coroutines submitted and collected",
        "10,000 coroutines submitted",
        "coroutines/s",
        "{:,.0f}/s",
        True,
    ),
    ("8 threads calling a trivial coroutine", "8 calling threads", "calls/s", "{:,.0f}/s", True),
]


def write(report: Report) -> None:
    plots.draw(report, IMAGES, ["call", "job", "waiting", "threads"], ["svg"])
    replace(README, BEGIN, END, section(report))


def replace(page: Path, begin: str, end: str, section: str) -> None:
    """Writes a section anew, between the comments that mark it."""
    text = page.read_text()
    before, after = text.split(begin)[0], text.split(end)[1]
    page.write_text(f"{before}{begin}\n\n{section}\n{end}{after}")


def section(report: Report) -> str:
    machine = report["machine"]
    in_flight = column(report, "A coroutine in flight", "100,000 at once", FREE)
    waits = column(report, "A call that waits", "together", FREE)
    sizes = column(report, "A future created and dropped", "resident, bytes", FREE)
    times = column(report, "A future created and dropped", "µs", FREE)
    ours, theirs = in_flight[NATIVE], in_flight[STANDARD]
    lines = [
        f"This is the run of {report['date']} on {machine['machine']}, {machine['system']},",
        f"CPython {machine['CPython']} and uvloop {machine['uvloop']}, everything pinned to one processor,",
        "in brackets freely placed:",
        "",
        "| | this library | `run_coroutine_threadsafe` | the same on uvloop |",
        "|---|---|---|---|",
        *(f"| {what} | {' | '.join(cells(report, *line))} |" for what, *line in LINES),
        f"| resident memory of a coroutine in flight, of 100,000 | {ours:,.0f} B | {theirs:,.0f} B | - |",
        "",
        f"Of the {ours:,.0f} bytes a bare `asyncio.create_task` takes {in_flight[CREATE_TASK]:,.0f}; a thread that",
        f"waits takes {waits[THREAD]:,.0f}, page tables and kernel stack included. A `Future` is",
        f"{sizes['Future']:,.0f} bytes resident and {times['Future']:.2f} µs to create and drop; a",
        f"`concurrent.futures.Future` is {sizes[PLAIN]:,.0f} bytes and {times[PLAIN]:.2f} µs.",
        "",
    ]
    return "\n".join(lines)


def cells(report: Report, title: str, name: str, form: str, ratio: bool) -> list[str]:
    ours = number(report, title, name, NATIVE)
    texts = ["{} ({})".format(*map(form.format, ours))]
    for way in (STANDARD, UVLOOP):
        measured = number(report, title, name, way)
        text = "{} ({})".format(*map(form.format, measured))
        if ratio:
            times = number(report, title, "times ours", way)
            text += f": {times[0]:.1f} times slower ({times[1]:.1f})"
        texts.append(text)
    return texts


def number(report: Report, title: str, name: str, way: str) -> list[float]:
    """On one processor, and freely placed."""
    return [column(report, title, name, placement)[way] for placement in (PINNED, FREE)]


if __name__ == "__main__":
    write(json.loads(Path(sys.argv[1]).read_text()))
