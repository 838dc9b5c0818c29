"""Annotations as they stand in a module, read into expressions whose names are references to definitions."""

from __future__ import annotations

import ast
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from .expressions import Reference, arguments, name, subscript, union
from .sources import Definition, Module, Sources, Symbol
from .statements import Function, statements

__all__ = ["ANY", "INCOMPLETE", "NONE", "Scope", "is_any"]

ANY = Symbol("typing", "Any")
INCOMPLETE = Symbol("_typeshed", "Incomplete")

#: Old names in `typing`, and what they are called now.
_MODERN = {
    "AbstractSet": ("collections.abc", "Set"),
    "AsyncContextManager": ("contextlib", "AbstractAsyncContextManager"),
    "ContextManager": ("contextlib", "AbstractContextManager"),
    "Counter": ("collections", "Counter"),
    "ChainMap": ("collections", "ChainMap"),
    "DefaultDict": ("collections", "defaultdict"),
    "Deque": ("collections", "deque"),
    "OrderedDict": ("collections", "OrderedDict"),
    "Match": ("re", "Match"),
    "Pattern": ("re", "Pattern"),
    "Text": ("builtins", "str"),
    **{each: ("builtins", each.lower()) for each in ("Dict", "FrozenSet", "List", "Set", "Tuple", "Type")},
    **{
        each: ("collections.abc", each)
        for each in (
            "AsyncGenerator",
            "AsyncIterable",
            "AsyncIterator",
            "Awaitable",
            "Callable",
            "Collection",
            "Container",
            "Coroutine",
            "Generator",
            "Hashable",
            "ItemsView",
            "Iterable",
            "Iterator",
            "KeysView",
            "Mapping",
            "MappingView",
            "MutableMapping",
            "MutableSequence",
            "MutableSet",
            "Reversible",
            "Sequence",
            "Sized",
            "ValuesView",
        )
    },
}

#: Modules whose public names live elsewhere in the standard library.
_PUBLIC = {
    "_collections_abc": "collections.abc",
    "asyncio.events": "asyncio",
    "asyncio.futures": "asyncio",
    "asyncio.locks": "asyncio",
    "asyncio.queues": "asyncio",
    "asyncio.streams": "asyncio",
    "asyncio.tasks": "asyncio",
    "asyncio.transports": "asyncio",
}


def NONE() -> ast.expr:
    return ast.Constant(None)


def is_any(expression: ast.expr) -> bool:
    return isinstance(expression, Reference) and expression.symbol in (ANY, INCOMPLETE)


def modern(symbol: Symbol) -> Symbol:
    """The name that current Python has for something of the standard library."""
    module, qualname = symbol
    if module == "typing_extensions" and hasattr(typing, qualname):
        module = "typing"
    if module == "typing" and qualname in _MODERN:
        return Symbol(*_MODERN[qualname])
    return Symbol(_PUBLIC.get(module, module), qualname)


@dataclass(frozen=True)
class Scope:
    """Where an annotation stands: in a module, perhaps in a class, perhaps among type parameters of its own.

    `unknown` is told the text of each annotation that can't be resolved.
    """

    sources: Sources
    module: Module
    unknown: Callable[[str], None]
    owners: tuple[ast.ClassDef, ...] = ()
    parameters: frozenset[str] = frozenset()

    def inside(self, node: ast.ClassDef | Function) -> Scope:
        own = frozenset(each.name for each in getattr(node, "type_params", ()))
        owners = (*self.owners, node) if isinstance(node, ast.ClassDef) else self.owners
        return replace(self, owners=owners, parameters=self.parameters | own)

    def of(self, definition: Definition) -> Scope:
        """The scope of a definition's own body."""
        scope = replace(self, module=definition.module, owners=(), parameters=frozenset())
        outer = definition.symbol.name.split(".")[:-1]
        for depth in range(1, len(outer) + 1):
            owner = self.sources.definition(Symbol(definition.symbol.module, ".".join(outer[:depth])))
            if owner is not None and owner.class_node is not None:
                scope = scope.inside(owner.class_node)
        return scope

    def read(self, node: ast.expr | None) -> ast.expr:
        """The annotation with its names resolved; `Incomplete` where there is none or it means nothing."""
        if node is None:
            return Reference(INCOMPLETE)
        match node:
            case ast.Constant(value=str(value)):
                try:
                    return self.read(ast.parse(f"({value.strip()})", mode="eval").body)
                except SyntaxError:
                    return self._unresolved(value)
            case ast.Constant(value=value):
                return node if value is None or value is ... else self._unresolved(repr(value))
            case ast.Name() | ast.Attribute():
                return self._reference(node)
            case ast.Subscript(value=value):
                return self._subscript(self.read(value), arguments(node))
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return union([self.read(left), self.read(right)])
            case ast.List(elts=items):
                return ast.List([self.read(item) for item in items], ast.Load())
            case ast.Tuple(elts=items):
                return ast.Tuple([self.read(item) for item in items], ast.Load())
            case ast.Starred(value=value):
                return ast.Starred(self.read(value), ast.Load())
        return self._unresolved(ast.unparse(node))

    def symbol(self, node: ast.expr) -> Symbol | None:
        """What a name or a dotted name refers to."""
        dotted = _dotted(node)
        if dotted is None:
            return None
        for depth in range(len(self.owners), 0, -1):
            body = self.owners[depth - 1].body
            if any(_names_type(each, dotted[0]) for each in statements(body)):
                path = [owner.name for owner in self.owners[:depth]]
                return Symbol(self.module.name, ".".join([*path, *dotted]))
        found = self.sources.resolve(self.module, dotted)
        return None if found is None else modern(found)

    def _reference(self, node: ast.expr) -> ast.expr:
        dotted = _dotted(node)
        if dotted is None:
            return self._unresolved(ast.unparse(node))
        if dotted[0] in self.parameters:
            return ast.Attribute(ast.Name(dotted[0]), dotted[1]) if dotted[1:] else ast.Name(dotted[0])
        if dotted[-1] in ("args", "kwargs") and len(dotted) > 1:
            assert isinstance(node, ast.Attribute)
            symbol = self.symbol(node.value)
            if symbol is not None and "ParamSpec" in self._made_by(symbol):
                return ast.Attribute(Reference(symbol), dotted[-1], ast.Load())
        symbol = self.symbol(node)
        if symbol is None:
            return self._unresolved(".".join(dotted))
        definition = self.sources.definition(symbol)
        if definition is not None and all(isinstance(each, Function) for each in definition.nodes):
            return self._unresolved(".".join(dotted))  # a function is no type
        if symbol == ("typing", "NoReturn"):
            return name("typing", "NoReturn")
        return Reference(symbol)

    def _made_by(self, symbol: Symbol) -> str:
        """The text of the call that made a type variable or the like."""
        definition = self.sources.definition(symbol)
        value = getattr(definition.nodes[-1], "value", None) if definition is not None else None
        return ast.unparse(value.func) if isinstance(value, ast.Call) else ""

    def _subscript(self, value: ast.expr, args: Sequence[ast.expr]) -> ast.expr:
        if is_any(value):
            return value
        if isinstance(value, Reference):
            match value.symbol:
                case ("typing", "Optional"):
                    return union([self.read(args[0]), NONE()])
                case ("typing", "Union"):
                    return union([self.read(arg) for arg in args])
                case ("typing", "Literal"):
                    return subscript(value, [self._literal(arg) for arg in args])
                case ("typing", "Annotated"):
                    return self.read(args[0])  # what is said about it are values, and may not be to be had
        return subscript(value, [self.read(arg) for arg in args])

    def _literal(self, node: ast.expr) -> ast.expr:
        if not isinstance(node, ast.Attribute):
            return node
        symbol = self.symbol(node.value)  # a member of an enumeration
        return node if symbol is None else ast.Attribute(Reference(symbol), node.attr, ast.Load())

    def _unresolved(self, text: str) -> ast.expr:
        self.unknown(text)
        return Reference(INCOMPLETE)


def _dotted(node: ast.expr) -> list[str] | None:
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        outer = _dotted(node.value)
        return None if outer is None else [*outer, node.attr]
    return None


def _names_type(statement: ast.stmt, wanted: str) -> bool:
    """Whether a statement of a class body defines a type of that name. A method of the same name doesn't hide one."""
    if isinstance(statement, ast.ClassDef):
        return statement.name == wanted
    if isinstance(statement, ast.Assign) and isinstance(
        statement.value, ast.Subscript | ast.BinOp | ast.Name | ast.Attribute
    ):
        return any(isinstance(target, ast.Name) and target.id == wanted for target in statement.targets)
    return (
        isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and (statement.target.id == wanted and ast.unparse(statement.annotation).endswith("TypeAlias"))
    )
