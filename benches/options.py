"""What the commands that measure are asked for, and where their numbers go besides the terminal."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from .report import Report


def command(
    program: str, description: str | None, names: Iterable[str], readme: str
) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"what to measure, of {', '.join(names)}; default: all"
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds: shows that it works, not how fast it is"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there as well")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="draw the numbers there, as PNG and SVG")
    parser.add_argument("--readme", action="store_true", help=readme)
    return parser


def answered(parser: argparse.ArgumentParser, names: Iterable[str]) -> argparse.Namespace:
    """The options, with all names where none is given. Exits for a name that isn't one of these."""
    options = parser.parse_args()
    among(parser, options.names, names)
    options.names = options.names or list(names)
    return options


def among(parser: argparse.ArgumentParser, given: Iterable[str], known: Iterable[str]) -> None:
    for name in given:
        if name not in known:
            parser.error(f"{name} isn't one of {', '.join(known)}")


def put(report: Report, options: argparse.Namespace, package: str) -> None:
    """Writes the numbers to a file, draws them, and puts them into the documentation, as far as that is asked for."""
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    # Only where it is needed: what draws takes long to import.
    if options.plot is not None:
        import_module(".plots", package).draw(report, options.plot)
    if options.readme:
        import_module(".readme", package).write(report)
