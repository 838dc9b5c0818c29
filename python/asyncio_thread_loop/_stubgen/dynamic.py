"""What only the class at run time has: members that a decorator, a metaclass or an assignment put there."""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from .expressions import Reference, arguments, name
from .functions import MARKS, Functions, simple_default
from .model import Callee, Kind, Parameter
from .scope import INCOMPLETE, NONE, Scope
from .sources import Symbol
from .statements import Function, class_body

__all__ = ["Dynamic"]


class Dynamic:
    """Describes members that were made at run time: by their source if there is one, else by name."""

    def __init__(self, scope: Scope, functions: Functions, report: Callable[[str], None]) -> None:
        self._scope = scope
        self._facing = functions.facing
        self._functions = functions
        self._report = report

    def member(self, called: str, value: Any, symbol: Symbol) -> Iterator[Callee]:
        """A member that only the class at run time has: put there by a decorator, a metaclass or an assignment."""
        path = f"{symbol}.{called}"
        mark = None
        if isinstance(value, classmethod | staticmethod):
            mark = type(value).__name__
            value = value.__func__
        if isinstance(value, property | functools.cached_property):
            getter = value.fget if isinstance(value, property) else value.func
            found = None if getter is None else _source_of(self._scope, getter)
            if found is not None:
                yield from self._functions.method(
                    [found[0]], found[1], path, as_name=called, is_property=True
                )
            else:
                self._report(f"{path}: made at run time, its type is unknown")
                self_parameter = Parameter("self", Kind.POSITIONAL, None)
                yield Callee(
                    called,
                    [self_parameter],
                    Reference(INCOMPLETE),
                    [name("builtins", "property")],
                    inspect.getdoc(value),
                )
            return
        if not inspect.isroutine(value):
            return
        found = _source_of(self._scope, value)
        if found is None:
            yield self._functions.dynamic(value, called, path, mark)
            return
        for callee in self._functions.method([found[0]], found[1], path, as_name=called):
            if mark is not None and not callee.decorators:
                callee.decorators = [Reference(MARKS[mark])]
            callee.doc = inspect.getdoc(value) or callee.doc
            yield callee

    def constructor(self, loaded: type, symbol: Symbol) -> Callee:
        """`__init__` as a dataclass or the like makes it: its parameters are the annotated fields."""
        parameters = [Parameter("self", Kind.POSITIONAL, None)]
        try:
            signature = inspect.signature(loaded)
        except (TypeError, ValueError):
            return self._functions.dynamic(vars(loaded)["__init__"], "__init__", f"{symbol}.__init__")
        for parameter in signature.parameters.values():
            found = self._field(symbol, parameter.name)
            if found is None:
                self._report(f"{symbol}.__init__: no known type for {parameter.name}")
                annotation: ast.expr = Reference(INCOMPLETE)
            else:
                annotation = self._facing.taken(found)
            default = None
            if parameter.default is not parameter.empty:
                try:
                    default = simple_default(ast.parse(repr(parameter.default), mode="eval").body)
                except (SyntaxError, ValueError):
                    default = "..."
            parameters.append(Parameter(parameter.name, Kind(parameter.kind), annotation, default))
        return Callee("__init__", parameters, NONE(), [], None)

    def _field(self, symbol: Symbol, called: str) -> ast.expr | None:
        for each in self._facing.ancestry(symbol):
            definition = self._facing.class_definition(each)
            if definition is None or definition.class_node is None:
                continue
            for node in class_body(definition.class_node).get(called, []):
                if isinstance(node, ast.AnnAssign):
                    read = self._scope.of(definition).inside(definition.class_node).read(node.annotation)
                    is_init_var = isinstance(read, ast.Subscript) and str(
                        getattr(read.value, "symbol", "")
                    ).endswith("dataclasses.InitVar")
                    return arguments(read)[0] if is_init_var else read
        return None


def _source_of(scope: Scope, function: Any) -> tuple[Function, Scope] | None:
    """The statement that defines a function, and where it stands."""
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None)
    module = scope.sources.module(getattr(function, "__module__", None) or "")
    if code is None or module is None or module.is_stub:
        return None
    owners: list[ast.ClassDef] = []

    def search(body: list[ast.stmt]) -> Function | None:
        for statement in body:
            if isinstance(statement, Function):
                lines = [statement.lineno, *(decorator.lineno for decorator in statement.decorator_list)]
                if statement.name == code.co_name and code.co_firstlineno in lines:
                    return statement
            if isinstance(statement, ast.ClassDef):
                owners.append(statement)
            inner = [each for each in ast.iter_child_nodes(statement) if isinstance(each, ast.stmt)]
            found = search(inner)
            if found is not None:
                return found
            if isinstance(statement, ast.ClassDef):
                owners.pop()
        return None

    found = search(module.tree.body)
    if found is None:
        return None
    place = Scope(scope.sources, module, scope.unknown)
    for owner in owners:
        place = place.inside(owner)
    if not owners:  # made by a function, but a method all the same
        place = place.inside(ast.ClassDef(name="", bases=[], keywords=[], body=[], decorator_list=[]))
    return found, place
