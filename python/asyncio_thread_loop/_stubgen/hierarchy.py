"""Classes: which of them are async, what they derive from, what awaiting their objects gives."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from .._faces.kinds import Kind, is_async_function, kind_of
from .aliases import Aliases, ignored
from .expressions import Reference, arguments, name, subscript, substitute, union_parts
from .inference import inferred_result
from .scope import ANY, INCOMPLETE, Scope
from .sources import Definition, Symbol, is_standard
from .statements import Function, statements

__all__ = [
    "ASYNC_MANAGER",
    "AWAITABLE",
    "FUTURES",
    "ITERATION",
    "PROTOCOL_METHODS",
    "Hierarchy",
    "argument",
    "head_of",
    "runtime",
]

#: What is awaited, and which of its arguments is the result.
AWAITABLE = {"collections.abc.Awaitable": 0, "collections.abc.Coroutine": 2, "types.CoroutineType": 2}
#: Work under way.
FUTURES = ("asyncio.Future", "asyncio.Task")
ASYNC_MANAGER = "contextlib.AbstractAsyncContextManager"
ITERATION = {
    "collections.abc.AsyncIterable": Symbol("collections.abc", "Iterable"),
    "collections.abc.AsyncIterator": Symbol("asyncio_thread_loop", "SyncIterator"),
    "collections.abc.AsyncGenerator": Symbol("asyncio_thread_loop", "SyncGenerator"),
}
PROTOCOL_METHODS = frozenset({"__aenter__", "__aexit__", "__aiter__", "__anext__", "__await__"})


class Hierarchy(Aliases):
    """Knows classes by their sources, and asks those that can be imported of which kind they are."""

    def __init__(self, scope: Scope, targets: Iterable[Symbol] = ()) -> None:
        super().__init__(scope)
        self._kinds: dict[Symbol, Kind] = dict.fromkeys(targets, Kind.FACE)

    def kind(self, symbol: Symbol) -> Kind:
        """What becomes of the instances of a class when they are a result."""
        if symbol not in self._kinds:
            self._kinds[symbol] = Kind.PLAIN  # while it is being found out
            loaded = runtime(symbol)
            if isinstance(loaded, type) and symbol.module != "builtins":
                self._kinds[symbol] = kind_of(loaded)
            elif self.class_definition(symbol) is not None:
                self._kinds[symbol] = self._declared_kind(symbol)
        return self._kinds[symbol]

    def _declared_kind(self, symbol: Symbol) -> Kind:
        """The same for a class that only type checkers know."""
        methods = self.async_methods(symbol)
        if "__await__" in methods and methods.isdisjoint(("__aenter__", "__aiter__", "__anext__")):
            return Kind.AWAITED
        return Kind.FACE if methods else Kind.PLAIN

    def class_scope(self, definition: Definition) -> Scope:
        assert definition.class_node is not None
        return self._scope.of(definition).inside(definition.class_node)

    def bases(self, definition: Definition) -> list[ast.expr]:
        assert definition.class_node is not None
        scope = self.class_scope(definition)
        return [scope.read(base) for base in definition.class_node.bases]

    def ancestry(self, symbol: Symbol) -> list[Symbol]:
        """The class and its bases, each once, as far as they are declared."""
        found: dict[Symbol, None] = {}

        def visit(each: Symbol) -> None:
            if each in found:
                return
            found[each] = None
            definition = self.class_definition(each)
            meaning = self.expanded(each) if definition is None else None
            for base in self.bases(definition) if definition is not None else [meaning] if meaning else []:
                head = head_of(base)
                if head is not None:
                    visit(head.symbol)

        visit(symbol)
        return list(found)

    def async_methods(self, symbol: Symbol) -> set[str]:
        """The methods that a class and its bases declare as async, those of the asynchronous protocols included."""
        found: set[str] = set()
        for each in self.ancestry(symbol):
            known = str(each)
            if known in AWAITABLE or known in FUTURES:
                found.add("__await__")
            elif known == ASYNC_MANAGER:
                found |= {"__aenter__", "__aexit__"}
            elif known in ITERATION:
                found.add("__aiter__")
            definition = None if is_standard(each.module) else self.class_definition(each)
            if definition is not None and definition.class_node is not None:
                found |= {
                    method.name
                    for method in statements(definition.class_node.body)
                    if isinstance(method, ast.AsyncFunctionDef)
                    or (isinstance(method, Function) and method.name in PROTOCOL_METHODS)
                }
        return found

    def leads_to_async(self, symbol: Symbol) -> bool:
        """Whether a class is async, or has methods that give something async: then it can be asked for."""
        if self.kind(symbol) is not Kind.PLAIN:
            return True
        loaded = runtime(symbol)
        if isinstance(loaded, type) and any(map(is_async_function, vars(loaded).values())):
            return True
        for each in self.ancestry(symbol):
            definition = None if is_standard(each.module) else self.class_definition(each)
            if definition is None or definition.class_node is None:
                continue
            methods = [node for node in statements(definition.class_node.body) if isinstance(node, Function)]
            if self.is_async_function(methods, self.class_scope(definition)):
                return True
        return False

    def is_async_function(self, nodes: Sequence[Function], scope: Scope) -> bool:
        """Whether one of these is async, or gives something that is."""
        return any(
            isinstance(node, ast.AsyncFunctionDef)
            or self._is_async(self.result(node, replace(scope, unknown=ignored).inside(node)))
            for node in nodes
        )

    def result(self, node: Function, scope: Scope) -> ast.expr:
        """What a call of the async function gives: as declared, or as can be read off its code."""
        return inferred_result(node, scope) if node.returns is None else scope.read(node.returns)

    def _is_async(self, expression: ast.expr) -> bool:
        for part in union_parts(expression):
            head, args = head_of(part), arguments(part)
            if head is None:
                continue
            known = str(head.symbol)
            if known in AWAITABLE or known in FUTURES or known in ITERATION or known == ASYNC_MANAGER:
                return True
            alias = self.expanded(head.symbol, args)
            if self._is_async(alias) if alias is not None else self.kind(head.symbol) is not Kind.PLAIN:
                return True
        return False

    def is_callback(self, symbol: Symbol) -> bool:
        """Whether it is a protocol of async functions: a parameter's, that takes callbacks."""
        definition = None if is_standard(symbol.module) else self.class_definition(symbol)
        if definition is None or definition.class_node is None:
            return False
        methods = [node for node in statements(definition.class_node.body) if isinstance(node, Function)]
        is_protocol = any(
            (head := head_of(base)) is not None and str(head.symbol) == "typing.Protocol"
            for base in self.bases(definition)
        )
        return (
            is_protocol
            and {method.name for method in methods} == {"__call__"}
            and self.is_async_function(methods, self.class_scope(definition))
        )

    def awaited(self, expression: ast.expr) -> ast.expr | None:
        """What awaiting an object of this class gives; None if it can't be awaited or isn't said."""
        head, args = head_of(expression), arguments(expression)
        if head is None:
            return None
        if str(head.symbol) in (*AWAITABLE, *FUTURES):
            return argument(args, AWAITABLE.get(str(head.symbol), 0))
        definition = self.class_definition(head.symbol)
        if definition is None or definition.class_node is None:
            alias = self.expanded(head.symbol, args)
            return None if alias is None else self.awaited(alias)
        values = dict(zip(self.class_variables(definition), args, strict=False))
        scope = self.class_scope(definition)
        for method in statements(definition.class_node.body):
            if isinstance(method, Function) and method.name == "__await__" and method.returns is not None:
                parts = arguments(scope.read(method.returns))
                return substitute(parts[2], values) if len(parts) == 3 else Reference(INCOMPLETE)
        for base in self.bases(definition):
            found = self.awaited(base)
            if found is not None:
                return substitute(found, values)
        return None

    def class_variables(self, definition: Definition) -> list[Symbol]:
        """The type variables of a class, in the order of its brackets."""
        bases = self.bases(definition)
        for base in bases:
            head = head_of(base)
            if (
                head is not None
                and str(head.symbol) in ("typing.Generic", "typing.Protocol")
                and arguments(base)
            ):
                return self.type_variables(base)
        return list(dict.fromkeys(variable for base in bases for variable in self.type_variables(base)))

    def original(self, symbol: Symbol) -> ast.expr:
        """The async class as a type, with its own type variables."""
        definition = self.class_definition(symbol)
        if definition is None or definition.class_node is None:
            return Reference(symbol)
        args: list[ast.expr] = []
        for each in getattr(definition.class_node, "type_params", ()):
            plain = ast.Name(each.name)
            args.append(ast.Starred(plain) if type(each).__name__ == "TypeVarTuple" else plain)
        if not args:
            args = [self._as_argument(variable) for variable in self.class_variables(definition)]
        return subscript(Reference(symbol), args) if args else Reference(symbol)

    def _as_argument(self, variable: Symbol) -> ast.expr:
        found, definition = self.variable(variable), self._sources.definition(variable)
        assert found is not None and definition is not None
        maker, call = found
        if maker.name == "TypeVarTuple":
            return subscript(name("typing", "Unpack"), [Reference(variable)])
        scope = self._scope.of(definition)
        limits = [*call.args[1:], *(keyword.value for keyword in call.keywords if keyword.arg == "bound")]
        if any(self._is_async(scope.read(limit)) for limit in limits):
            return Reference(ANY)  # it stands for faces here, and for async objects there
        return Reference(variable)


def runtime(symbol: Symbol) -> Any:
    """The object itself; None where it exists only for type checkers."""
    try:
        found: Any = importlib.import_module(symbol.module)
        for part in symbol.name.split("."):
            found = getattr(found, part)
    except Exception:
        return None
    return found


def head_of(expression: ast.expr) -> Reference | None:
    """A type without its arguments, if it is one that is defined somewhere."""
    head = expression.value if isinstance(expression, ast.Subscript) else expression
    return head if isinstance(head, Reference) and not head.face else None


def argument(args: Sequence[ast.expr], place: int) -> ast.expr:
    return args[place] if place < len(args) else Reference(ANY)
