"""The attributes that a class declares, and those that its `__init__` sets."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

from .expressions import Reference, arguments, name
from .facing import Facing
from .inference import inferred_type
from .model import Attribute
from .scope import INCOMPLETE, Scope
from .statements import Function

__all__ = ["Attributes"]

_CONSTANTS = (bool, int, float, str, bytes)


class Attributes:
    """Reads attributes. Says through `report` whose types aren't known."""

    def __init__(self, facing: Facing, report: Callable[[str], None]) -> None:
        self._facing = facing
        self._report = report

    def annotated(self, called: str, node: ast.AnnAssign, scope: Scope, path: str) -> Iterator[Attribute]:
        """One that is declared with a type."""
        annotation = scope.read(node.annotation)
        head = annotation.value if isinstance(annotation, ast.Subscript) else annotation
        known = str(head.symbol) if isinstance(head, Reference) else ""
        if known == "dataclasses.InitVar":
            return
        if known in ("typing.Final", "typing.ClassVar"):
            args = arguments(annotation)
            annotation = args[0] if args else self._value(node.value, None, scope, path)
        yield Attribute(called, self._facing.held(annotation))

    def assigned(self, called: str, value: ast.expr, loaded: object, scope: Scope, path: str) -> Attribute:
        """One that has a value and no type."""
        return Attribute(called, self._facing.held(self._value(value, loaded, scope, path)))

    def set_by(self, function: Function, scope: Scope, declared: set[str], path: str) -> Iterator[Attribute]:
        """The public attributes that a constructor sets, unless they are declared elsewhere."""
        args = function.args
        given = {arg.arg: arg.annotation for arg in [*args.posonlyargs, *args.args, *args.kwonlyargs]}
        for statement in ast.walk(function):
            if isinstance(statement, ast.AnnAssign):
                targets: list[ast.expr] = [statement.target]
            elif isinstance(statement, ast.Assign):
                targets = statement.targets
            else:
                continue
            for target in targets:
                if not (isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name)):
                    continue
                if target.value.id != "self" or target.attr.startswith("_") or target.attr in declared:
                    continue
                declared.add(target.attr)
                value = statement.value
                annotation = given.get(value.id) if isinstance(value, ast.Name) else None
                if isinstance(statement, ast.AnnAssign):
                    is_bare = ast.unparse(statement.annotation).rpartition(".")[2] == "Final"
                    annotation = annotation if is_bare else statement.annotation
                if annotation is not None:
                    read = scope.read(annotation)
                else:
                    read = self._value(value, None, scope, f"{path}.{target.attr}")
                yield Attribute(target.attr, self._facing.held(read))

    def _value(self, value: ast.expr | None, loaded: object, scope: Scope, path: str) -> ast.expr:
        """The type of a value, where it can be read off."""
        if isinstance(loaded, _CONSTANTS):
            return name("builtins", type(loaded).__name__)
        is_none = value is None or (isinstance(value, ast.Constant) and value.value is None)
        found = None if is_none else inferred_type(value, scope)
        if found is None:
            self._report(f"{path}: no known type")
        return found or Reference(INCOMPLETE)
