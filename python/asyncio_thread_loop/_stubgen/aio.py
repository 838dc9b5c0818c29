"""`.aio` of a face: of its class the async class, of an object the async object."""

from __future__ import annotations

import ast

from .expressions import Reference, name, subscript
from .model import Attribute, Callee, Face, Kind, Parameter, Variable
from .scope import NONE
from .sources import Symbol

__all__ = ["AIO", "aio_attribute", "aio_descriptor"]

#: The descriptor behind it, which each file declares for itself.
AIO = Symbol("", "_Aio")

_VARIABLE = Variable(
    Symbol("", "_Aio_co"), name("typing", "TypeVar"), [], [("covariant", ast.Constant(True))]
)


def aio_attribute(original: ast.expr) -> Attribute:
    return Attribute("aio", subscript(Reference(AIO, face=True), [original]))


def aio_descriptor() -> tuple[Variable, Face]:
    variable = Reference(_VARIABLE.symbol)

    def get(face: ast.expr, gives: ast.expr) -> Callee:
        parameters = [
            Parameter("self", Kind.POSITIONAL, None),
            Parameter("face", Kind.POSITIONAL, face),
            Parameter("owner", Kind.POSITIONAL, name("builtins", "type")),
        ]
        return Callee("__get__", parameters, gives, [name("typing", "overload")])

    of_class = get(NONE(), subscript(name("builtins", "type"), [variable]))
    of_object = get(name("builtins", "object"), variable)
    return _VARIABLE, Face(AIO, [subscript(name("typing", "Generic"), [variable])], [of_class, of_object])
