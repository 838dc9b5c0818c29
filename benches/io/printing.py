"""What all cases come to, on a terminal."""

from __future__ import annotations

from rich.table import Table as Printed

from ..printing import console
from .comparison import PEERS, Comparison

#: What the table needs, where no terminal says how much there is.
WIDTH = 136


def show(comparisons: list[Comparison]) -> None:
    """A row for each case: ours against its peers, and whether what is required holds."""
    printed = Printed(title="EventLoop's rate and processor time, of its peers'", title_justify="left")
    printed.add_column(no_wrap=True)
    for peer in PEERS:
        printed.add_column(peer, justify="right", no_wrap=True)
    printed.add_column("its share", justify="right")
    printed.add_column("required", justify="right")
    printed.add_column("", no_wrap=True)
    for each in comparisons:
        ratios = (each.ratio(peer) for peer in PEERS)
        verdict = each.verdict
        colour = "green" if verdict == "holds" else "red"
        printed.add_row(
            each.case.row,
            *(f"{ratio.rate:.2f} {ratio.processor:.2f}" if ratio else "-" for ratio in ratios),
            "" if each.share is None else f"{each.share:.0%}",
            f"{each.case.times:g}",
            f"[{colour}]{verdict}[/]",
        )
    console.print()
    if not console.is_terminal:
        console.width = WIDTH
    console.print(printed)
    console.print(
        "its share: the part of the time that the load left to EventLoop's server; rates are per second of that time"
    )
