"""The numbers of a run as pictures. Draws a saved run again: `python -m benches.io.plots FILE DIR`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from ..plots import (
    FAINT,
    INCH,
    LIMITS,
    OUR_COLOUR,
    PEERS,
    SHARPNESS,
    STYLE,
    name_rows,
    panels,
    sign,
)
from ..report import Report
from .loops import AIOFASTNET, AIOFASTNET_UVLOOP, OURS, RLOOP, STANDARD, UVLOOP

#: How each loop is drawn: its colour, and a marker for those who don't see it.
LOOKS = {
    STANDARD: (PEERS, "s"),
    RLOOP: ("#a855a5", "v"),
    AIOFASTNET: (LIMITS, "<"),
    AIOFASTNET_UVLOOP: (LIMITS, ">"),
    OURS: (OUR_COLOUR, "o"),
}

#: What is drawn, in which order its groups come.
PICTURES = {
    "io": ("I/O", lambda row: row["server's share"] is not None),
    "scheduling": ("Scheduling and processes", lambda row: row["server's share"] is None),
}

NAMES = 235


def draw(report: Report, directory: Path, kinds: Iterable[str] = ("svg", "png")) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        for name, (title, belongs) in PICTURES.items():
            rows = [row for row in report["comparisons"] if belongs(row) and UVLOOP in row["loops"]]
            if rows:
                figure = picture(title, rows)
                sign(figure, report)
                for kind in kinds:
                    # Without the time in it the same numbers make the same file.
                    metadata = {"Date": None} if kind == "svg" else None
                    figure.savefig(directory / f"{name}.{kind}", dpi=SHARPNESS * INCH, metadata=metadata)


def picture(title: str, rows: list[dict]) -> Figure:
    """Rate and processor time of each loop, times uvloop's: better is right of the line in one, left in the other."""
    figure, axes = panels(f"{title}: times uvloop", [len(rows)], across=2, names=NAMES)
    for axis, what, better in ((axes[0], "per s", "more"), (axes[1], "processor, µs", "less")):
        for place, row in enumerate(reversed(rows)):
            least = row["loops"][UVLOOP][what]
            for loop, (colour, marker) in LOOKS.items():
                if loop in row["loops"]:
                    times = row["loops"][loop][what] / least
                    size = 7 if loop == OURS else 4.5
                    axis.plot([times], [place], marker, color=colour, markersize=size, markeredgewidth=0)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.axvline(1, color=PEERS, linewidth=1)
        axis.grid(axis="x", color=FAINT)
        kind = "rate" if what == "per s" else "processor time"
        axis.set_title(f"{kind}: {better} is better", fontweight="normal", fontsize=9, pad=2)
        axis.hlines(range(len(rows)), *axis.get_xlim(), color=FAINT, linewidth=0.5, zorder=0)
        name_rows(axis, [row["row"] for row in reversed(rows)])
    axes[1].set_yticks([])
    left, bottom, width, height = axes[0].get_position().bounds
    axes[0].set_position([left, bottom, 0.95 * width, height])
    legend(figure)
    return figure


def legend(figure: Figure) -> None:
    handles = [
        Line2D([], [], linestyle="", marker=marker, color=colour, label=loop)
        for loop, (colour, marker) in LOOKS.items()
    ]
    figure.legend(
        handles=handles[::-1],
        loc="upper right",
        bbox_to_anchor=(1, 1 - 21 / (INCH * figure.get_figheight())),
        fontsize=8,
        frameon=False,
        ncols=len(handles),
        columnspacing=1,
        handletextpad=0,
    )


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
