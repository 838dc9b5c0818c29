"""Classes as they are declared, and as they are at run time, turned into faces."""

from __future__ import annotations

import ast
import functools
import inspect
import types
from collections.abc import Iterator
from typing import Any

from .._faces.kinds import Kind as FaceKind
from .aio import aio_attribute
from .attributes import Attributes
from .dynamic import Dynamic
from .expressions import Reference, arguments, name, subscript
from .functions import RENAMED, TIMEOUT, Functions, type_parameter
from .hierarchy import ASYNC_MANAGER, AWAITABLE, runtime
from .model import Alias, Attribute, Callee, Face, Kind, Parameter
from .scope import INCOMPLETE, Scope, is_any
from .sources import Definition, Symbol, is_standard
from .statements import Function, class_body, statements

__all__ = ["Classes"]

#: Methods of the object itself that a face doesn't take over: they are its own, or Python calls them.
_LEFT_OUT = frozenset(
    f"__{name}__"
    for names in (
        "class_getitem init_subclass subclasshook instancecheck subclasscheck prepare set_name match_args slots",
        "getattribute setattr delattr dir get set dict weakref module doc annotations",
        "repr str format hash sizeof copy deepcopy reduce reduce_ex getnewargs getstate setstate del post_init",
    )
    for name in names.split()
)

#: Synchronous protocol methods, and the asynchronous ones that they stand for: a class that has both means the latter.
_REPLACED = {
    synchronous: asynchronous for asynchronous, synchronous in RENAMED.items() if synchronous != "result"
}

#: What a coroutine has for whoever drives it, which a face does itself.
_DRIVING = ("send", "throw", "close")

#: Abstract classes whose methods are inherited.
_BASES = {
    "collections.abc.AsyncIterable": Symbol("collections.abc", "Iterable"),
    "collections.abc.AsyncIterator": Symbol("collections.abc", "Iterator"),
}


class Classes:
    """Reads classes into faces."""

    def __init__(self, scope: Scope, functions: Functions, attributes: Attributes, dynamic: Dynamic) -> None:
        self._scope = scope
        self._facing = functions.facing
        self._functions = functions
        self._attributes = attributes
        self._dynamic = dynamic

    def face(self, symbol: Symbol) -> Face:
        definition = self._facing.class_definition(symbol)
        loaded = runtime(symbol)
        if definition is None:
            return self._face_without_source(symbol, loaded)
        node = definition.class_node
        assert node is not None
        scope = self._scope.of(definition).inside(node)
        if self._facing.is_callback(symbol):
            calls = [each for each in statements(node.body) if isinstance(each, Function)]
            call = self._functions.callback(calls[-1], scope, f"{symbol}.__call__")
            return Face(
                symbol,
                list(self._bases(definition)),
                [call],
                ast.get_docstring(node),
                self._parameters(node, scope),
                is_made=False,
            )
        bases = list(self._bases(definition))
        members = list(self._members(definition, scope, loaded))
        if not any(isinstance(member, Callee) and member.name == "result" for member in members):
            for base in self._facing.bases(definition):
                head = base.value if isinstance(base, ast.Subscript) else base
                if isinstance(head, Reference) and str(head.symbol) in AWAITABLE:
                    awaited = self._facing.awaited(base) or Reference(INCOMPLETE)
                    members.append(_result(self._facing.returned(awaited)))
        return Face(
            symbol,
            bases,
            [aio_attribute(self._facing.original(symbol)), *members],
            ast.get_docstring(node),
            self._parameters(node, scope),
            is_made=isinstance(loaded, type) and self._facing.kind(symbol) is FaceKind.FACE,
        )

    def _parameters(self, node: ast.ClassDef, scope: Scope) -> list[ast.AST]:
        return [type_parameter(each, scope, self._facing) for each in getattr(node, "type_params", ())]

    def _face_without_source(self, symbol: Symbol, loaded: Any) -> Face:
        """One of a class whose source can't be read, or has no annotations: the standard library's, an extension's."""
        inherited = {
            called: value for base in reversed(loaded.__mro__[:-1]) for called, value in vars(base).items()
        }
        members: list[Callee | Attribute | Alias] = []
        for called, value in sorted(inherited.items()):
            is_special = called.startswith("__") and called.endswith("__")
            if (
                called in _LEFT_OUT
                or _REPLACED.get(called) in inherited
                or (called.startswith("_") and not is_special)
            ):
                continue
            members += self._dynamic.member(RENAMED.get(called) or called, value, symbol)
        aio = aio_attribute(Reference(symbol))
        return Face(symbol, [], [aio, *members], inspect.getdoc(loaded))

    # Bases

    def _bases(self, definition: Definition) -> Iterator[ast.expr]:
        for base in self._facing.bases(definition):
            head = base.value if isinstance(base, ast.Subscript) else base
            if not isinstance(head, Reference) or is_any(head):
                continue
            known = str(head.symbol)
            args = [self._facing.returned(arg) for arg in arguments(base)]
            if known in _BASES:
                yield subscript(Reference(_BASES[known]), args) if args else Reference(_BASES[known])
            elif known == ASYNC_MANAGER:
                yield self._facing.returned(base)
            elif known in AWAITABLE or known == "collections.abc.AsyncGenerator":
                variables = self._facing.type_variables(base)
                if variables and not _generic(self._facing.bases(definition)):
                    yield subscript(name("typing", "Generic"), map(Reference, variables))
            elif known in ("abc.ABC", "builtins.object") or head.symbol.module == "asyncio":
                continue  # nobody implements a face, and the callbacks of a protocol aren't for callers
            elif is_standard(head.symbol.module):
                yield base
            elif self._facing.class_definition(head.symbol) is not None:
                yield self._facing.face(head.symbol, args)
            else:
                turned = self._facing.returned(base)
                if turned is not base:
                    yield turned

    # Members

    def _members(
        self, definition: Definition, scope: Scope, loaded: Any
    ) -> Iterator[Callee | Attribute | Alias]:
        symbol = definition.symbol
        node = definition.class_node
        assert node is not None
        groups = class_body(node)
        own = vars(loaded) if isinstance(loaded, type) else {}
        for called, nodes in groups.items():
            if not self._is_wanted(called, symbol):
                continue
            path = f"{symbol}.{called}"
            last = nodes[-1]
            if isinstance(last, Function):
                methods = [each for each in nodes if isinstance(each, Function)]
                yield from self._functions.method(
                    methods, scope, path, is_property=_is_descriptor(own.get(called))
                )
            elif isinstance(last, ast.ClassDef):
                yield Alias(called, Reference(Symbol(symbol.module, f"{symbol.name}.{called}")))
            elif isinstance(last, ast.AnnAssign):
                yield from self._attributes.annotated(called, last, scope, path)
            elif isinstance(last, ast.Assign):
                yield from self._assigned(called, last, groups, scope, own, symbol)
        if not definition.module.is_stub:
            declared = {
                *groups,
                *(name for base in self._facing.ancestry(symbol)[1:] for name in self._declared(base)),
            }
            for called, value in own.items():
                if called not in declared and not called.startswith("_"):
                    yield from self._dynamic.member(called, value, symbol)
            for function in groups.get("__init__", []):
                if isinstance(function, Function):
                    yield from self._attributes.set_by(function, scope, declared, str(symbol))
        is_made = "__init__" in own or "__signature__" in own
        if is_made and "__init__" not in groups and "__new__" not in groups:
            yield self._dynamic.constructor(loaded, symbol)

    def _is_wanted(self, called: str, symbol: Symbol) -> bool:
        if called in _LEFT_OUT or called == "aio" or (called.startswith("_") and not called.endswith("__")):
            return False
        methods = self._facing.async_methods(symbol)
        if called == "__await__" and any(
            "result" in self._declared(each) for each in self._facing.ancestry(symbol)
        ):
            return False
        if called in _DRIVING and ("collections.abc", "Coroutine") in self._facing.ancestry(symbol):
            return False
        if called == "__iter__" and "__await__" in methods:
            return False  # the awaiting of older code
        return _REPLACED.get(called) not in methods

    def _declared(self, symbol: Symbol) -> set[str]:
        definition = self._facing.class_definition(symbol)
        node = None if definition is None else definition.class_node
        return set() if node is None else set(class_body(node))

    def _assigned(
        self,
        called: str,
        node: ast.Assign,
        groups: dict[str, list[ast.stmt]],
        scope: Scope,
        own: Any,
        symbol: Symbol,
    ) -> Iterator[Callee | Attribute | Alias]:
        path = f"{symbol}.{called}"
        value = node.value
        if isinstance(value, ast.Name) and value.id in groups:  # another name of a method
            methods = [each for each in groups[value.id] if isinstance(each, Function)]
            if methods:
                yield from self._functions.method(methods, scope, path, as_name=called)
                return
        loaded = own.get(called)
        if isinstance(loaded, types.FunctionType | classmethod | staticmethod | property):
            yield from self._dynamic.member(called, loaded, symbol)
        else:
            yield self._attributes.assigned(called, value, loaded, scope, path)


def _generic(bases: list[ast.expr]) -> bool:
    return any(
        isinstance(base, ast.Subscript)
        and isinstance(base.value, Reference)
        and str(base.value.symbol) in ("typing.Generic", "typing.Protocol")
        for base in bases
    )


def _is_descriptor(value: Any) -> bool:
    """Whether a class attribute computes a value on access, as a property does, and isn't a method."""
    return (
        value is not None
        and not inspect.isroutine(value)
        and not isinstance(value, classmethod | staticmethod | functools.partialmethod)
        and hasattr(type(value), "__get__")
        and not callable(value)
    )


def _result(returns: ast.expr) -> Callee:
    doc = "Waits for it, as `await` does, and returns what that gives."
    return Callee("result", [Parameter("self", Kind.POSITIONAL, None), TIMEOUT()], returns, [], doc)
