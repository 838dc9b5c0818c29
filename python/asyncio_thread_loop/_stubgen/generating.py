"""From the command's arguments to the texts of the files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from .aio import AIO
from .errors import StubgenError
from .naming import Names, face_names
from .overloads import with_implementations
from .reading import read
from .rendering import file_stem, render
from .sources import Symbol
from .targets import load

__all__ = ["generate"]


def generate(
    wanted: Sequence[str],
    form: Literal["pyi", "py"],
    *,
    relative: bool,
    command: str,
    report: Callable[[str], None],
) -> dict[str, str]:
    """The files' names and texts, for the targets in any order: the same for the same targets.

    With `relative` files of the same run import from each other as parts of one package. `report` is told whatever has
    no known type. Raises `StubgenError`.
    """
    found = [target for each in wanted for target in load(each)]
    # One that was named as well as found in its module counts as named.
    targets = {
        (target.module, target.name): target for target in sorted(found, key=lambda each: each.is_named)
    }
    units = read([targets[key] for key in sorted(targets)], report)
    modules: dict[str, str] = {}
    for unit in units:
        other = modules.setdefault(file_stem(unit.module), unit.module)
        if other != unit.module:
            raise StubgenError(
                f"{other} and {unit.module} would both be written to {file_stem(other)}.{form}"
            )
    faces: dict[Symbol, str] = {}
    homes: dict[Symbol, str] = {}
    for unit in map(with_implementations, units) if form == "py" else units:
        faces |= face_names(unit)
        homes |= dict.fromkeys((face.original for face in unit.faces), unit.module)
    files = {}
    for unit in units:
        names = Names(unit, {**homes, AIO: unit.module}, faces)
        names.assign()
        files[f"{file_stem(unit.module)}.{form}"] = render(
            unit, names, form, command=command, relative=relative
        )
    return files
