"""Types as expressions: the nodes of `ast`, and references to what is defined somewhere."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

from .sources import Symbol

__all__ = [
    "Either",
    "Reference",
    "arguments",
    "key",
    "literal",
    "name",
    "subscript",
    "substitute",
    "text",
    "union",
    "union_parts",
]


class Reference(ast.expr):
    """A definition, named as the written file will call it.

    `face` tells the synchronous class from the async one it was made of.
    """

    _fields = ()

    def __init__(self, symbol: Symbol, *, face: bool = False) -> None:
        super().__init__()
        self.symbol = symbol
        self.face = face
        #: What the written file calls it.
        self.local = str(symbol)

    def __repr__(self) -> str:
        return f"<{'face of ' if self.face else ''}{self.symbol}>"


class Either(ast.expr):
    """An argument: the async object, or its face where the file has one."""

    _fields = ("original", "face")

    def __init__(self, original: ast.expr, face: ast.expr) -> None:
        super().__init__()
        self.original = original
        self.face = face


def name(module: str, qualname: str) -> Reference:
    return Reference(Symbol(module, qualname))


def subscript(value: ast.expr, args: Iterable[ast.expr]) -> ast.Subscript:
    items = list(args)
    inner = (
        items[0]
        if len(items) == 1 and not isinstance(items[0], ast.Starred)
        else ast.Tuple(items, ast.Load())
    )
    return ast.Subscript(value, inner, ast.Load())


def arguments(expression: ast.expr) -> list[ast.expr]:
    """What stands in the brackets, if there are any."""
    if not isinstance(expression, ast.Subscript):
        return []
    inner = expression.slice
    return list(inner.elts) if isinstance(inner, ast.Tuple) else [inner]


def union(parts: Iterable[ast.expr]) -> ast.expr:
    """`A | B`, each once, None last."""
    unique: dict[str, ast.expr] = {}
    for part in parts:
        for each in union_parts(part):
            unique.setdefault(key(each), each)
    ordered = sorted(unique.values(), key=is_none)
    result = ordered[0]
    for each in ordered[1:]:
        result = ast.BinOp(result, ast.BitOr(), each)
    return result


def union_parts(expression: ast.expr) -> list[ast.expr]:
    if isinstance(expression, ast.BinOp) and isinstance(expression.op, ast.BitOr):
        return [*union_parts(expression.left), *union_parts(expression.right)]
    return [expression]


def is_none(expression: ast.expr) -> bool:
    return isinstance(expression, ast.Constant) and expression.value is None


def key(expression: ast.expr) -> str:
    """The same for expressions that mean the same."""
    return text(expression, canonical=True)


def substitute(
    expression: ast.expr, values: dict[Symbol, ast.expr], parameters: dict[str, ast.expr] | None = None
) -> ast.expr:
    """The expression with type variables replaced, and with type parameters by their names."""
    replaced = _Substitution(values, parameters or {})
    return replaced.visit(copied(expression)) if values or parameters else expression


class _Substitution(ast.NodeTransformer):
    def __init__(self, values: dict[Symbol, ast.expr], parameters: dict[str, ast.expr]) -> None:
        self._values = values
        self._parameters = parameters

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, Reference):
            return self._values.get(node.symbol, node)
        if isinstance(node, ast.Name):
            return self._parameters.get(node.id, node)
        return self.generic_visit(node)


def copied(expression: Any) -> Any:
    """A copy of the nodes. References are shared: they are named once, at the end."""
    if isinstance(expression, Reference) or not isinstance(expression, ast.AST):
        return expression
    fields: dict[str, Any] = {}
    for field_name, value in ast.iter_fields(expression):
        fields[field_name] = [copied(each) for each in value] if isinstance(value, list) else copied(value)
    if isinstance(expression, Either):
        return Either(fields["original"], fields["face"])
    return type(expression)(**fields)


def text(expression: ast.expr, *, canonical: bool = False) -> str:
    """The expression as source, in the quotes and blanks of common formatters."""

    def write(node: ast.expr) -> str:
        match node:
            case Reference():
                return f"{node.symbol}{'!' if node.face else ''}" if canonical else node.local
            case Either():
                return f"({write(node.original)} or {write(node.face)})" if canonical else write(chosen(node))
            case ast.Name(id=identifier):
                return identifier
            case ast.Constant(value=value):
                return literal(value)
            case ast.Attribute(value=value, attr=attribute):
                return f"{write(value)}.{attribute}"
            case ast.Subscript(value=value, slice=ast.Tuple(elts=items)) if items:
                return f"{write(value)}[{', '.join(map(write, items))}]"
            case ast.Subscript(value=value, slice=inner):
                return f"{write(value)}[{write(inner)}]"
            case ast.BinOp(op=ast.BitOr()):
                return " | ".join(write(part) for part in union_parts(node))
            case ast.List(elts=items):
                return f"[{', '.join(map(write, items))}]"
            case ast.Tuple(elts=[item]):
                return f"({write(item)},)"
            case ast.Tuple(elts=items):
                return f"({', '.join(map(write, items))})"
            case ast.Starred(value=value):
                return f"*{write(value)}"
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return f"-{write(operand)}"
            case ast.Call(func=function, args=args, keywords=keywords):
                parts = [
                    *map(write, args),
                    *(f"{keyword.arg}={write(keyword.value)}" for keyword in keywords),
                ]
                return f"{write(function)}({', '.join(parts)})"
        return ast.unparse(node)

    return write(expression)


def chosen(either: Either) -> ast.expr:
    faces = [node for node in ast.walk(either.face) if isinstance(node, Reference) and node.face]
    if all(node.local for node in faces):
        return union([either.face, either.original])
    return either.original


def literal(value: object) -> str:
    if value is ...:
        return "..."
    if isinstance(value, str) and '"' not in value:
        return '"' + repr('"' + value)[2:-1].replace("\\'", "'") + '"'
    if isinstance(value, bytes) and b'"' not in value:
        return 'b"' + repr(b'"' + value)[3:-1].replace("\\'", "'") + '"'
    return repr(value)
