"""Loops side by side in one case, and whether ours does what is required."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, NamedTuple

from ..measuring import Required, Table, Turns, in_equal_turns
from .cases import TITLES, Case
from .loops import AIOFASTNET_UVLOOP, OURS, STANDARD, UVLOOP
from .programs import Failed, Programs

#: What ours is compared with.
PEERS = (UVLOOP, STANDARD, AIOFASTNET_UVLOOP)

PER_SECOND = "per s"
PROCESSOR = "µs of processor"


class Ratio(NamedTuple):
    """Ours, of another's: the medians of what each round says."""

    rate: float
    processor: float


@dataclass
class Comparison:
    case: Case
    turns: dict[str, Turns]
    missing: dict[str, str]
    #: The part of the time that the load left to ours; where there is a load.
    share: float | None

    def ratio(self, peer: str) -> Ratio | None:
        if peer not in self.turns:
            return None
        ours, its = self.turns[OURS], self.turns[peer]
        return Ratio(its.times(ours), ours.processor_times(its))

    @property
    def required(self) -> dict[str, list[Required]]:
        """What is required of ours against a peer: its rate and its processor time."""
        bounds = {UVLOOP: self.case.times} | ({AIOFASTNET_UVLOOP: 1} if self.case.as_aiofastnet else {})
        return {
            peer: [
                Required(f"the rate of {peer}", ratio.rate, "at least", bound),
                Required(f"the processor time of {peer}", ratio.processor, "at most", 1 / bound),
            ]
            for peer, bound in bounds.items()
            if (ratio := self.ratio(peer))
        }

    @property
    def verdict(self) -> str:
        """Whether what is required holds, or against whom it is missed. Nothing if they couldn't be measured."""
        required = self.required
        missed = [peer.split(",")[0] for peer, each in required.items() if not all(one.holds for one in each)]
        return f"missed: {', '.join(missed)}" if missed else "holds" if required else ""

    def stated(self) -> dict[str, Any]:
        """As it is saved."""
        return {
            "name": self.case.name,
            "row": self.case.row,
            "required to be better": self.case.times,
            "loops": {
                name: {"per s": 1e6 / each.microseconds, "processor, µs": each.processor_microseconds}
                for name, each in self.turns.items()
            },
            "ratios": {peer: self.ratio(peer)._asdict() for peer in self.turns},
            "server's share": self.share,
            "missing": self.missing,
            "required": [
                asdict(one) | {"holds": one.holds} for each in self.required.values() for one in each
            ],
            "verdict": self.verdict,
        }


def compare(programs: Programs, case: Case, loops: list[str], rounds: int, seconds: float) -> Comparison:
    """Measures the case on these loops. A peer that can't do it is missing; raises `Failed` if ours can't."""
    missing: dict[str, str] = {}
    while True:
        try:
            with ExitStack() as stack:
                ways = {name: programs.way(case, name, stack) for name in loops if name not in missing}
                turns = in_equal_turns(ways, rounds, seconds)
        except Failed as error:
            programs.forget(error.loop)
            if error.loop == OURS:
                raise
            missing[error.loop] = f"not available: {error}"
            continue
        shares = ways[OURS].shares
        return Comparison(case, turns, missing, median(shares) if shares else None)


def table(name: str, comparisons: list[Comparison], loops: list[str]) -> Table:
    """A group of cases: a row for each loop, its rate and its processor time in each."""
    columns = {}
    rows: dict[str, list[float | None]] = {loop: [] for loop in loops}
    missing = {}
    for each in comparisons:
        label = each.case.label and f"{each.case.label}: "
        columns |= {f"{label}{PER_SECOND}": ",.0f", f"{label}{PROCESSOR}": ",.2f"}
        for loop, row in rows.items():
            turns = each.turns.get(loop)
            row += [1e6 / turns.microseconds, turns.processor_microseconds] if turns else [None, None]
        missing |= {f"{loop}, {each.case.row}": reason for loop, reason in each.missing.items()}
    return Table(TITLES[name].rstrip(",:"), columns, rows, missing=missing)
