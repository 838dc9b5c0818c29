"""The implementations that overloads need in a module; stubs have none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .expressions import Reference, name
from .model import Alias, Attribute, Callee, Kind, Parameter, Unit

__all__ = ["is_overload", "with_implementations"]

Member = Callee | Attribute | Alias


def with_implementations(unit: Unit) -> Unit:
    """The same unit, each group of overloads followed by a signature that takes everything."""
    for face in unit.faces:
        face.members = list(_implemented(face.members))
    unit.functions = [each for each in _implemented(unit.functions) if isinstance(each, Callee)]
    return unit


def is_overload(member: object) -> bool:
    return isinstance(member, Callee) and any(
        isinstance(each, Reference) and each.symbol == ("typing", "overload") for each in member.decorators
    )


def _implemented(members: Sequence[Member]) -> Iterator[Member]:
    for index, member in enumerate(members):
        yield member
        following = members[index + 1].name if index + 1 < len(members) else None
        if isinstance(member, Callee) and is_overload(member) and following != member.name:
            yield _implementation(member, [each for each in members if each.name == member.name])


def _implementation(last: Callee, group: Sequence[Member]) -> Callee:
    decorators = [
        each
        for each in last.decorators
        if not (isinstance(each, Reference) and each.symbol.name == "overload")
    ]
    parameters = [
        *(
            Parameter(each.name, Kind.POSITIONAL, None)
            for each in last.parameters[:1]
            if each.name in ("self", "cls")
        ),
        Parameter("args", Kind.VAR_POSITIONAL, name("typing", "Any")),
        Parameter("kwargs", Kind.VAR_KEYWORD, name("typing", "Any")),
    ]
    doc = next((each.doc for each in group if isinstance(each, Callee) and each.doc), None)
    returns = last.returns if last.name == "__init__" else name("typing", "Any")
    return Callee(last.name, parameters, returns, decorators, doc)
