"""The tables on a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table as Printed

from .measuring import Table

console = Console(highlight=False)
if not console.is_terminal:
    console.width = 100


def show_machine(report: dict[str, Any]) -> None:
    facts = (f"{name} {value}" for name, value in report["machine"].items())
    console.print(f"{report['date']}: {', '.join(facts)}")


def show(placement: str, table: Table) -> None:
    printed = Printed(title=f"{table.title} ({placement})", title_justify="left")
    printed.add_column(no_wrap=True)
    for column in table.columns:
        printed.add_column(column, justify="right")
    for name, values in table.rows.items():
        formats = table.columns.values()
        printed.add_row(name, *map(cell, values, formats))
    console.print()
    console.print(printed)
    for name, reason in table.missing.items():
        console.print(f"{name}: {reason}", markup=False)
    for required in table.required:
        verdict = "[green]holds[/]" if required.holds else "[red]missed[/]"
        bound = f"{required.relation} {required.bound:g}"
        console.print(f"{verdict}: {required.measured:.3g} {required.what} ({bound} required)")


def cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def show_failure(name: str, placement: str, error: Exception) -> None:
    console.print()
    console.print(f"{name} ({placement}) could not be measured: {error}", style="red", markup=False)
