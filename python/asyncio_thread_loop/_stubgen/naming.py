"""What a written file calls things: each name once, none in the way of another."""

from __future__ import annotations

import builtins
import keyword
from dataclasses import dataclass, field

from .expressions import Reference
from .model import Unit, nodes
from .sources import Symbol

__all__ = ["Names", "face_names"]


@dataclass
class Names:
    """The names of one file: its faces, its type variables and its imports."""

    unit: Unit
    #: The files of the same run, each with its own faces.
    homes: dict[Symbol, str]
    faces: dict[Symbol, str]
    imports: dict[tuple[str, str], str] = field(default_factory=dict)
    variables: dict[Symbol, str] = field(default_factory=dict)
    uses_builtins: bool = False

    def assign(self) -> None:
        """Gives every reference the name that the file will use."""
        references = [node for node in nodes(self.unit) if isinstance(node, Reference)]
        taken = {self.faces[face.original] for face in self.unit.faces}
        taken |= {function.name for function in self.unit.functions}
        members = {member.name for face in self.unit.faces for member in face.members}
        hidden = taken | members | set(dir(builtins)) | set(keyword.kwlist)

        def free(wanted: str, avoid: set[str]) -> str:
            candidate = wanted
            number = 1
            while candidate in avoid or candidate in taken:
                candidate = (
                    f"_{wanted.lstrip('_')}"
                    if number == 1 and not wanted.startswith("_")
                    else f"{wanted}_{number}"
                )
                number += 1
            taken.add(candidate)
            return candidate

        for variable in self.unit.variables:
            self.variables[variable.symbol] = free(variable.symbol.name.rpartition(".")[2], hidden)
        wanted: dict[tuple[str, str], None] = {}
        for reference in references:
            if self._is_imported(reference):
                wanted.setdefault(self._import_of(reference))
        for module, name in sorted(wanted):
            self.imports[module, name] = free(name, hidden)
        for reference in references:
            reference.local = self._local(reference, members)

    def _is_imported(self, reference: Reference) -> bool:
        if reference.face:
            return self.homes.get(reference.symbol, self.unit.module) != self.unit.module
        return reference.symbol not in self.variables and reference.symbol.module != "builtins"

    def _import_of(self, reference: Reference) -> tuple[str, str]:
        if reference.face:
            return f"!{self.homes[reference.symbol]}", self.faces[reference.symbol]
        return reference.symbol.module, reference.symbol.name.partition(".")[0]

    def _local(self, reference: Reference, members: set[str]) -> str:
        symbol = reference.symbol
        if reference.face:
            if symbol not in self.homes:
                return ""
            if self.homes[symbol] == self.unit.module:
                return self.faces[symbol]
            return self.imports[self._import_of(reference)]
        if symbol in self.variables:
            return self.variables[symbol]
        if symbol.module == "builtins":
            if symbol.name.partition(".")[0] in members:
                self.uses_builtins = True
                return f"builtins.{symbol.name}"
            return symbol.name
        _, dot, inner = symbol.name.partition(".")
        return f"{self.imports[self._import_of(reference)]}{dot}{inner}"


def face_names(unit: Unit) -> dict[Symbol, str]:
    """The classes' own names. Those asked for come first where two have the same; mere bases are private."""
    names = {symbol: name.replace(".", "_") for name, symbol in unit.targets}
    taken = {*names.values(), *(function.name for function in unit.functions)}
    for face in unit.faces:
        if face.original not in names:
            wanted = face.original.name.replace(".", "_")
            if not face.is_made:
                wanted = f"_{wanted.lstrip('_')}"
            candidate = wanted
            number = 2
            while candidate in taken:
                candidate = f"{wanted}_{number}"
                number += 1
            names[face.original] = candidate
            taken.add(candidate)
    return names
