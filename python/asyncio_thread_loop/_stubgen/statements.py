"""The statements of a module or class that hold for a type checker, and the names they define."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator

__all__ = ["Function", "class_body", "defined_names", "statements"]

Function = ast.FunctionDef | ast.AsyncFunctionDef


def defined_names(statement: ast.stmt) -> Iterator[str]:
    """The names a statement defines, imports aside."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield statement.name
    elif isinstance(statement, ast.Assign):
        for target in statement.targets:
            if isinstance(target, ast.Name):
                yield target.id
    elif isinstance(statement, ast.AnnAssign | ast.AugAssign):
        if isinstance(statement.target, ast.Name):
            yield statement.target.id
    elif sys.version_info >= (3, 12) and isinstance(statement, ast.TypeAlias):
        yield statement.name.id


def statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module or class body that hold for a type checker, without the conditions around them."""
    for statement in body:
        if isinstance(statement, ast.If):
            holds = _holds(statement.test)
            chosen = [] if holds is False else list(statements(statement.body))
            yield from chosen
            if holds is not True:
                known = {name for each in chosen for name in _bound_names(each)}
                for other in statements(statement.orelse):
                    if known.isdisjoint(_bound_names(other)):
                        yield other
        elif isinstance(statement, ast.Try):
            chosen = list(statements([*statement.body, *statement.orelse, *statement.finalbody]))
            yield from chosen
            known = {name for each in chosen for name in _bound_names(each)}
            for handler in statement.handlers:
                for other in statements(handler.body):
                    if known.isdisjoint(_bound_names(other)):
                        yield other
        elif isinstance(statement, ast.With):
            yield from statements(statement.body)
        else:
            yield statement


def _bound_names(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in statement.names}
    return set(defined_names(statement))


def _holds(test: ast.expr) -> bool | None:
    """Whether a condition holds for a type checker; None if only the run can tell."""
    match test:
        case ast.Constant(value=value):
            return bool(value)
        case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
            return True
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            holds = _holds(operand)
            return None if holds is None else not holds
        case ast.BoolOp(op=ast.And(), values=values):
            each = [_holds(value) for value in values]
            return False if False in each else None if None in each else True
        case ast.BoolOp(values=values):
            each = [_holds(value) for value in values]
            return True if True in each else None if None in each else False
        case ast.Compare(left=ast.Attribute(value=ast.Name(id="sys"), attr="version_info" | "platform")):
            try:
                return bool(eval(compile(ast.Expression(test), "", "eval"), {"sys": sys}))
            except Exception:
                return None
    return None


def class_body(node: ast.ClassDef) -> dict[str, list[ast.stmt]]:
    """What a class body defines, each name with its statements."""
    groups: dict[str, list[ast.stmt]] = {}
    for statement in statements(node.body):
        if isinstance(statement, Function | ast.ClassDef):
            groups.setdefault(statement.name, []).append(statement)
        elif isinstance(statement, ast.Assign):
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    groups.setdefault(target.id, []).append(statement)
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            groups.setdefault(statement.target.id, []).append(statement)
    return groups
