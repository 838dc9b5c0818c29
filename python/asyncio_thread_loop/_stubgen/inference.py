"""Types of what isn't annotated, where they can be read off the code: `self`, a new object, a constant, nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from .expressions import Reference, name, subscript, union
from .scope import INCOMPLETE, NONE, Scope, is_any
from .sources import Symbol
from .statements import Function

__all__ = ["inferred_result", "inferred_type", "is_generator"]


def inferred_result(node: Function, scope: Scope) -> ast.expr:
    """The type of what is returned, where it can be read off: `self`, a new object, a constant, nothing."""
    if is_generator(node):
        item = Reference(INCOMPLETE)
        if isinstance(node, ast.AsyncFunctionDef):
            return subscript(name("collections.abc", "AsyncGenerator"), [item, Reference(INCOMPLETE)])
        return subscript(name("collections.abc", "Iterator"), [item])
    returned = list(_returned(node.body))
    if not returned and (scope.module.is_stub or _is_placeholder(node.body)):
        return Reference(INCOMPLETE)
    positional = [arg.arg for arg in [*node.args.posonlyargs, *node.args.args]]
    first = positional[0] if positional and scope.owners else None
    if not returned:
        return NONE()
    parts = [inferred_type(value, scope, first) or Reference(INCOMPLETE) for value in returned]
    return Reference(INCOMPLETE) if any(map(is_any, parts)) else union(parts)


def inferred_type(value: ast.expr | None, scope: Scope, first: str | None = None) -> ast.expr | None:
    """The type of a value, where it can be read off. `first` is what the function calls its first parameter."""
    match value:
        case None | ast.Constant(value=None):
            return NONE()
        case ast.Constant(value=bool() | int() | float() | str() | bytes() as constant):
            return name("builtins", type(constant).__name__)
        case ast.JoinedStr():
            return name("builtins", "str")
        case ast.Compare(ops=[ast.Is() | ast.IsNot() | ast.In() | ast.NotIn()]) | ast.UnaryOp(op=ast.Not()):
            return name("builtins", "bool")
        case ast.Name(id=identifier) if identifier == first == "self":
            return name("typing", "Self")
        case ast.Call(func=ast.Name(id=identifier)) if identifier == first == "cls":
            return name("typing", "Self")
        case ast.Call(func=ast.Name() | ast.Attribute() as called):
            symbol = scope.symbol(called)
            if symbol is not None and _is_class(scope, symbol):
                return Reference(symbol)
    return None


def is_generator(function: Function) -> bool:
    """Whether a function yields, in its own body."""

    def yields(node: ast.AST) -> bool:
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return True
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            return False
        return any(yields(child) for child in ast.iter_child_nodes(node))

    return any(yields(statement) for statement in function.body)


def _returned(body: Sequence[ast.stmt]) -> Iterator[ast.expr | None]:
    """The values of the `return` statements, those of inner functions aside."""
    for statement in body:
        if isinstance(statement, ast.Return):
            yield statement.value
        elif not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for _, value in ast.iter_fields(statement):
                if isinstance(value, list):
                    for each in value:
                        if isinstance(each, ast.stmt):
                            yield from _returned([each])
                        elif isinstance(each, ast.ExceptHandler | ast.match_case):
                            yield from _returned(each.body)


def _is_placeholder(body: Sequence[ast.stmt]) -> bool:
    """Whether a body is there only to be overridden."""
    return all(
        isinstance(statement, ast.Pass | ast.Raise)
        or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
        for statement in body
    )


def _is_class(scope: Scope, symbol: Symbol) -> bool:
    definition = scope.sources.definition(symbol)
    return definition is not None and definition.class_node is not None
