"""What names of types stand for: aliases, type variables, and what can be found at run time."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import replace

from .expressions import Reference, substitute
from .scope import ANY, Scope
from .sources import Definition, Symbol

__all__ = ["Aliases", "ignored"]


class Aliases:
    def __init__(self, scope: Scope) -> None:
        self._scope = replace(scope, unknown=ignored)
        self._sources = scope.sources
        self._expanding: set[Symbol] = set()

    def expanded(self, symbol: Symbol, args: Sequence[ast.expr] = ()) -> ast.expr | None:
        """What a type alias stands for."""
        definition = None if symbol in self._expanding else self._sources.definition(symbol)
        value = None if definition is None else _alias_value(definition.nodes[0])
        if definition is None or value is None:
            return None
        parameters = [each.name for each in getattr(definition.nodes[0], "type_params", ())]
        self._expanding.add(symbol)
        try:
            scope = self._scope.of(definition)
            meaning = replace(scope, parameters=frozenset(parameters)).read(value)
        finally:
            self._expanding.discard(symbol)
        variables = self.type_variables(meaning)
        padded = [*args, *[Reference(ANY)] * (len(variables) + len(parameters))]
        if parameters:
            return substitute(meaning, {}, dict(zip(parameters, padded, strict=False)))
        return substitute(meaning, dict(zip(variables, padded, strict=False)))

    def aliased_class(self, symbol: Symbol) -> Symbol | None:
        """The class that a name stands for, perhaps by an alias."""
        while self.class_definition(symbol) is None:
            meaning = self.expanded(symbol)
            if not isinstance(meaning, Reference):
                return None
            symbol = meaning.symbol
        return symbol

    def type_variables(self, expression: ast.expr) -> list[Symbol]:
        found = {
            node.symbol: None
            for node in ast.walk(expression)
            if isinstance(node, Reference) and self.variable(node.symbol) is not None
        }
        return list(found)

    def variable(self, symbol: Symbol) -> tuple[Symbol, ast.Call] | None:
        """Which kind of type variable `symbol` is, if it is one, and the call that makes it."""
        definition = self._sources.definition(symbol)
        call = getattr(definition.nodes[0], "value", None) if definition is not None else None
        if definition is None or not isinstance(call, ast.Call):
            return None
        maker = self._scope.of(definition).symbol(call.func)
        if maker is None or maker.module not in ("typing", "typing_extensions"):
            return None
        return (maker, call) if maker.name in ("TypeVar", "ParamSpec", "TypeVarTuple") else None

    def class_definition(self, symbol: Symbol) -> Definition | None:
        definition = self._sources.definition(symbol)
        return definition if definition is not None and definition.class_node is not None else None


def _alias_value(statement: ast.stmt) -> ast.expr | None:
    """The right side of a type alias."""
    if isinstance(statement, ast.Assign):
        value: ast.expr | None = statement.value
        return value if isinstance(value, ast.Name | ast.Attribute | ast.Subscript | ast.BinOp) else None
    if isinstance(statement, ast.AnnAssign):
        is_alias = ast.unparse(statement.annotation).rpartition(".")[2] == "TypeAlias"
        return statement.value if is_alias else None
    return getattr(statement, "value", None) if type(statement).__name__ == "TypeAlias" else None


def ignored(text: str) -> None:
    """Nothing is told about what is only looked at."""
