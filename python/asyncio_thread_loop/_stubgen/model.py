"""What a generated file says, before it is text: the one model behind both forms."""

from __future__ import annotations

import ast
import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .sources import Symbol

__all__ = ["Alias", "Attribute", "Callee", "Face", "Kind", "Parameter", "Unit", "Variable", "nodes"]


class Kind(enum.Enum):
    """The kinds of parameters, in the order in which they may follow each other."""

    POSITIONAL_ONLY = 0
    POSITIONAL = 1
    VAR_POSITIONAL = 2
    KEYWORD_ONLY = 3
    VAR_KEYWORD = 4


@dataclass
class Parameter:
    name: str
    kind: Kind
    annotation: ast.expr | None
    default: str | None = None


@dataclass
class Callee:
    """One signature of a method or a function."""

    name: str
    parameters: list[Parameter]
    returns: ast.expr | None
    decorators: list[ast.expr] = field(default_factory=list)
    doc: str | None = None
    type_parameters: list[ast.AST] = field(default_factory=list)


@dataclass
class Attribute:
    name: str
    annotation: ast.expr


@dataclass
class Alias:
    """A class inside a class."""

    name: str
    value: ast.expr


@dataclass
class Variable:
    """A type variable, declared anew: its bound may be a face."""

    symbol: Symbol
    maker: ast.expr
    args: list[ast.expr]
    keywords: list[tuple[str, ast.expr]]


@dataclass
class Face:
    """The synchronous class made of an async one."""

    original: Symbol
    bases: list[ast.expr]
    members: Sequence[Callee | Attribute | Alias]
    doc: str | None = None
    type_parameters: list[ast.AST] = field(default_factory=list)
    #: Whether `to_sync` makes it by itself. What isn't async gets a face only as a base of one that is.
    is_made: bool = True


@dataclass
class Unit:
    """One generated file: the faces of one target module."""

    module: str
    #: The names the classes were asked for by, and where they are defined.
    targets: list[tuple[str, Symbol]]
    faces: list[Face]
    functions: list[Callee]
    variables: list[Variable]


def nodes(part: Unit | Face | Callee | Variable) -> Iterator[ast.AST]:
    """Every node of every type in it."""
    roots: list[ast.AST | None] = []
    match part:
        case Variable():
            roots = [part.maker, *part.args, *(value for _, value in part.keywords)]
        case Callee():
            roots = [
                *part.decorators,
                part.returns,
                *(parameter.annotation for parameter in part.parameters),
                *part.type_parameters,
            ]
        case Face():
            roots = [*part.bases, *part.type_parameters]
            for member in part.members:
                if isinstance(member, Callee):
                    yield from nodes(member)
                else:
                    roots.append(member.annotation if isinstance(member, Attribute) else member.value)
        case Unit():
            parts: list[Face | Callee | Variable] = [*part.variables, *part.faces, *part.functions]
            for each in parts:
                yield from nodes(each)
    for root in roots:
        if root is not None:
            yield from ast.walk(root)
