"""The numbers of a run as pictures. Draws a saved run again: `python -m benches.plots FILE DIR`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from . import limits
from .report import FREE, PINNED, Report, column, find
from .size import FLAT
from .ways import NATIVE, STANDARD

#: All in pixels of a README that is so wide; an inch has so many, and the PNGs are so much sharper.
WIDTH = 830
INCH = 100
SHARPNESS = 2
MARGIN, ROW, ABOVE, BETWEEN, BELOW = 10, 22, 60, 64, 56
NAMES = 250  # more where a name is longer than usual

OUR_COLOUR = "#0f6fb8"
OUR_OTHERS = "#6aa9d6"
PEERS = "#6b7280"
LIMITS = "#b7791f"
FAINT = "#e5e7eb"
TEXT = "#1f2937"

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": TEXT,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": PEERS,
    "axes.titlecolor": TEXT,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.axisbelow": True,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.color": PEERS,
    "ytick.color": PEERS,
    "xtick.minor.bottom": False,
    "ytick.minor.left": False,
    "svg.fonttype": "none",  # text stays text: a fifth of the size
    "svg.hashsalt": "asyncio-thread-loop",
}

Rows = dict[str, dict[str, float]]

PLACEMENTS = f"● {PINNED}, in numbers    ○ {FREE}    logarithmic; times: of AsyncioThreadLoop"

LATE = "µs late, median"
PEAK = "peak memory, MiB"


def draw(
    report: Report, directory: Path, names: Iterable[str] | None = None, kinds: Iterable[str] = ("svg", "png")
) -> None:
    """Draws what the run has measured: all pictures, or those named."""
    directory.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        for name in PICTURES if names is None else names:
            figure = PICTURES[name](report)
            if figure is not None:
                sign(figure, report)
                for kind in kinds:
                    # Without the time in it the same numbers make the same file.
                    metadata = {"Date": None} if kind == "svg" else None
                    figure.savefig(directory / f"{name}.{kind}", dpi=SHARPNESS * INCH, metadata=metadata)


# Pictures


def a_call(report: Report) -> Figure | None:
    title = "A trivial coroutine"
    rows = both(report, title, "µs")
    if rows is None:
        return None
    figure, (axis,) = panels("One call of a trivial coroutine", [len(rows)], note=PLACEMENTS)
    dots(axis, rows, column(report, title, "times ours", PINNED))
    return figure


def workloads(report: Report) -> Figure | None:
    parts = [
        ("await asyncio.sleep(0)", "await asyncio.sleep(0)", "µs"),
        ("A byte to an echo server in another process, and back", "A byte to an echo server", "µs"),
        ("How late await asyncio.sleep(0.001) returns", "await asyncio.sleep(0.001)", LATE),
        ("One of 10,000 coroutines submitted and collected", "10,000 coroutines submitted", "coroutines/s"),
    ]
    found = [both(report, table, name) for _, table, name in parts]
    if None in found:
        return None
    figure, axes = panels("One call, other work", [len(rows) for rows in found], note=PLACEMENTS, names=320)
    for axis, rows, (title, _, unit) in zip(axes, found, parts, strict=True):
        if unit == "coroutines/s":
            rows = {name: {where: 1e6 / rate for where, rate in row.items()} for name, row in rows.items()}
        dots(axis, rows, {name: row[PINNED] / rows[NATIVE][PINNED] for name, row in rows.items()})
        axis.set_title(title)
    return figure


def calling_threads(report: Report) -> Figure | None:
    tables = {count: find(report, f"{count} calling thread", PINNED) for count in (1, 8, 64)}
    if None in tables.values():
        return None
    rates, latencies = (
        {
            count: {name: numbers(table, name, columns) for name in table["rows"]}
            for count, table in tables.items()
        }
        for columns in (["calls/s"], ["µs, median", "99 %", "99.9 %"])
    )
    rows = list(tables[8]["rows"])
    figure, (above, below) = panels(
        "Threads that call a trivial coroutine again and again",
        [14, len(rows)],
        note=f"{PINNED}, logarithmic",
    )
    above.set_yscale("log")
    lines(above, {name: [rates[count][name][0] for count in rates] for name in rows}, list(map(str, rates)))
    above.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    above.set_title("Calls per second, by the number of threads")
    order = sorted(rows, key=lambda name: latencies[8][name][0], reverse=True)
    for place, name in enumerate(order):
        middle, almost, most = latencies[8][name]
        below.plot([middle, most], [place, place], color=colour(name), linewidth=1.5, alpha=0.35)
        below.plot([almost], [place], "|", color=colour(name), markersize=8)
        below.plot([middle], [place], "o", color=colour(name), markersize=6)
        beside(below, most, place, f"{middle:,.0f}, {almost:,.0f}, {most:,.0f} µs", name)
    below.set_xscale("log")
    below.set_xlim(right=60 * max(each[2] for each in latencies[8].values()))
    below.xaxis.set_major_locator(NullLocator())
    name_rows(below, order)
    below.set_title("One call of 8 threads: the median, 99 % and 99.9 % of them")
    return figure


def waiting(report: Report) -> Figure | None:
    table = find(report, "A call that waits", FREE)
    in_flight = column(report, "A coroutine in flight", "10,000 at once", FREE)
    if table is None or in_flight is None:
        return None
    parts = {name: row[:3] for name, row in table["rows"].items()} | {STANDARD: [in_flight[STANDARD], 0, 0]}
    order = sorted(parts, key=lambda name: sum(parts[name]), reverse=True)
    figure, (axis,) = panels(
        "Memory of a call that waits",
        [len(order)],
        note="resident; of a thread also page tables and kernel stack",
    )
    for place, name in enumerate(order):
        begins = 0.0
        for part, shade in zip(parts[name], (1, 0.55, 0.25), strict=True):
            axis.barh(place, part, left=begins, color=colour(name), alpha=shade, height=0.6)
            begins += part
        kilobytes = " + ".join(f"{part / 1000:.1f}" for part in parts[name] if part)
        beside(axis, begins, place, f"{kilobytes} kB", name)
    axis.set_xlim(0, 1.4 * max(map(sum, parts.values())))
    axis.xaxis.set_major_locator(NullLocator())
    name_rows(axis, order)
    return figure


def against_size(report: Report) -> Figure | None:
    table = find(report, "A trivial coroutine while others", PINNED)
    if table is None:
        return None
    figure, (axis,) = panels("One call while others are in flight", [9], note="times what it takes alone")
    axis.set_ylim(0, max(1.6, *(1.1 * value for row in table["rows"].values() for value in row if value)))
    lines(axis, table["rows"], list(table["columns"]))
    axis.axhline(FLAT, color=LIMITS, linewidth=1, linestyle=(0, (4, 3)))
    axis.annotate(
        f"required: {FLAT}", (0, FLAT), (0, 4), textcoords="offset points", color=LIMITS, fontsize=9
    )
    return figure


def job(report: Report) -> Figure | None:
    table = next((table for table in report["tables"] if table["name"] == "jobs"), None)
    if table is None:
        return None
    order = list(table["rows"])[::-1]
    figure, axes = panels(table["title"], [len(order)], across=3)
    columns = {
        "seconds": "seconds, logarithmic",
        "processor, s": "seconds of processor",
        PEAK: "MiB more at the peak",
    }
    for axis, (part, title) in zip(axes, columns.items(), strict=True):
        values = [numbers(table, name, [part])[0] for name in order]
        axis.barh(range(len(order)), values, color=[colour(name) for name in order], height=0.6)
        if part == "seconds":
            axis.set_xscale("log")
            axis.set_xlim(min(values) / 3, 8 * max(values))
        else:
            axis.set_xlim(0, 1.5 * max(values))
        for place, (name, value) in enumerate(zip(order, values, strict=True)):
            beside(axis, value, place, format(value, ".1f" if part == PEAK else ".2f"), name)
        axis.xaxis.set_major_locator(NullLocator())
        axis.set_title(title, fontweight="normal", fontsize=9, pad=2)
        name_rows(axis, order)
        if axis is not axes[0]:
            axis.set_yticks([])
    return figure


PICTURES: dict[str, Callable[[Report], Figure | None]] = {
    "call": a_call,
    "workloads": workloads,
    "threads": calling_threads,
    "waiting": waiting,
    "size": against_size,
    "job": job,
}


# Numbers


def both(report: Report, title: str, name: str) -> Rows | None:
    """One column of a table, by row and placement."""
    pinned, free = (column(report, title, name, placement) for placement in (PINNED, FREE))
    if pinned is None:
        return None
    return {row: {PINNED: value} | ({FREE: free[row]} if free else {}) for row, value in pinned.items()}


def numbers(table: Mapping[str, Any], name: str, columns: list[str]) -> list[float]:
    """Some cells of a row."""
    return [table["rows"][name][list(table["columns"]).index(column)] for column in columns]


# Parts


def panels(
    title: str, rows: list[int], note: str = "", across: int = 1, names: int = NAMES
) -> tuple[Figure, list[Axes]]:
    """Axes for so many rows each, one below the other, or some beside one another."""
    above = ABOVE if len(rows) == 1 else ABOVE + ROW  # several have titles of their own
    height = above + ROW * sum(rows) + BETWEEN * (len(rows) - 1) + BELOW
    figure = Figure(figsize=(WIDTH / INCH, height / INCH), dpi=INCH, facecolor="white")
    figure.text(MARGIN / WIDTH, 1 - 24 / height, title, fontsize=12, fontweight="bold")
    figure.text(MARGIN / WIDTH, 1 - 44 / height, note, fontsize=8.5, color=PEERS)
    axes = []
    top = height - above
    for count in rows:
        top -= ROW * count
        wide = (WIDTH - names - MARGIN) / across
        for index in range(across):
            place = (names + index * wide, top, wide - 10, ROW * count)
            axes.append(
                figure.add_axes([place[0] / WIDTH, place[1] / height, place[2] / WIDTH, place[3] / height])
            )
        top -= BETWEEN
    return figure, axes


def dots(axis: Axes, rows: Rows, times: Mapping[str, float]) -> None:
    """A row for each, the least on top, on a logarithmic scale: a dot for each placement, and the numbers."""
    order = sorted(rows, key=lambda name: rows[name][PINNED], reverse=True)
    for place, name in enumerate(order):
        pinned, free = rows[name][PINNED], rows[name].get(FREE, rows[name][PINNED])
        axis.plot([pinned, free], [place, place], color=colour(name), linewidth=1.5, alpha=0.35)
        axis.plot([free], [place], "o", color=colour(name), markersize=5, markerfacecolor="white")
        axis.plot([pinned], [place], "o", color=colour(name), markersize=6)
        text = f"{brief(pinned)} µs" + ("" if name == NATIVE else f",  {brief(times[name])} times")
        beside(axis, max(pinned, free), place, text, name)
    axis.set_xscale("log")
    axis.xaxis.set_minor_locator(NullLocator())
    values = [value for row in rows.values() for value in row.values()]
    least, most = min(values) / 1.5, max(values)
    # The numbers of the last row need two sevenths of the width, whatever the scale.
    axis.set_xlim(least, least * (most / least) ** 1.4)
    if most < 30 * least:
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    # Where the scale goes on for their sake, it has no marks.
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g} µs" if value <= most else ""))
    axis.grid(axis="x", color=FAINT)
    name_rows(axis, order)


def lines(axis: Axes, rows: Mapping[str, list[float | None]], ticks: list[str]) -> None:
    """A line for each, named where it ends; names that would cover one another are moved apart."""
    ends = []
    for name, values in rows.items():
        known = [value for value in values if value is not None]
        wide = 2.6 if name == NATIVE else 1.3
        axis.plot(range(len(known)), known, "o-", color=colour(name), linewidth=wide, markersize=4)
        ends.append((known[-1], len(known) - 1, name))
    axis.set_xticks(range(len(ticks)), ticks)
    axis.set_xlim(-0.1, 1.7 * (len(ticks) - 1))
    axis.grid(axis="y", color=FAINT)
    frameless(axis)
    axis.figure.canvas.draw()  # only now it is known where things are
    taken = -INCH
    for value, index, name in sorted(ends):
        at = axis.transData.transform((index, value))[1]
        taken = max(at, taken + 14)
        beside(axis, value, index, name, name, up=taken - at, swapped=True)


def beside(
    axis: Axes, value: float, place: float, text: str, name: str, up: float = 0, swapped: bool = False
) -> None:
    """Words to the right of a point, so many pixels above it."""
    axis.annotate(
        text,
        (place, value) if swapped else (value, place),
        (8, up * 72 / INCH - 0.5),
        textcoords="offset points",
        va="center_baseline",
        fontsize=9,
        color=colour(name),
        fontweight="bold" if name == NATIVE else "normal",
        annotation_clip=False,
    )


def brief(number: float) -> str:
    """Two or three digits."""
    return f"{number:,.0f}" if number >= 10 else f"{number:.1f}" if number >= 1 else f"{number:.2f}"


def name_rows(axis: Axes, names: list[str]) -> None:
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(-0.6, len(names) - 0.4)
    for label, name in zip(axis.get_yticklabels(), names, strict=True):
        label.set_color(colour(name))
        label.set_fontweight("bold" if name == NATIVE else "normal")
    frameless(axis)


def frameless(axis: Axes) -> None:
    for side in axis.spines.values():
        side.set_visible(False)
    axis.tick_params(which="both", length=0)


def sign(figure: Figure, report: Report) -> None:
    """When and where it was measured."""
    machine = report["machine"]
    text = f"{report['date']}, CPython {machine['CPython']}, {machine['system']}, {machine['machine']}"
    figure.text(MARGIN / WIDTH, 12 / (figure.get_figheight() * INCH), text, fontsize=7.5, color=PEERS)


def colour(name: str) -> str:
    if name == NATIVE:
        return OUR_COLOUR
    if name.startswith(NATIVE):
        return OUR_OTHERS
    return LIMITS if name in vars(limits).values() or name.startswith("bare") else PEERS


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
