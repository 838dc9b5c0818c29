"""A run as it is saved, and how to find a number in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from .measuring import Table

#: Placements
PINNED = "on one processor"
FREE = "freely placed"

#: The date, the machine, and the tables.
Report = Mapping[str, Any]


def stated(name: str, placement: str, table: Table) -> dict[str, Any]:
    """A table as it is saved."""
    verdicts = [asdict(required) | {"holds": required.holds} for required in table.required]
    return {"name": name, "placement": placement} | asdict(table) | {"required": verdicts}


def find(report: Report, title: str, placement: str) -> dict[str, Any] | None:
    """The table whose title begins so."""
    return next(
        (
            table
            for table in report["tables"]
            if table["title"].startswith(title) and table["placement"] == placement
        ),
        None,
    )


def column(report: Report, title: str, name: str, placement: str) -> dict[str, float] | None:
    """One column of a table, by row."""
    table = find(report, title, placement)
    if table is None:
        return None
    index = list(table["columns"]).index(name)
    return {row: values[index] for row, values in table["rows"].items()}
