"""Functions and methods as they are declared, turned into what the synchronous side calls."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from .expressions import Either, Reference, arguments, literal, name, subscript, union, union_parts
from .facing import Facing
from .hierarchy import PROTOCOL_METHODS
from .inference import is_generator
from .model import Callee, Kind, Parameter
from .scope import ANY, INCOMPLETE, NONE, Scope
from .sources import Symbol, is_standard
from .statements import Function

__all__ = ["RENAMED", "Functions"]

#: What the methods of the asynchronous protocols are called on the synchronous side.
RENAMED = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "__await__": "result",
}

#: The decorators that are kept. `abstractmethod` isn't: nobody is to implement a face.
MARKS = {
    "overload": Symbol("typing", "overload"),
    "classmethod": Symbol("builtins", "classmethod"),
    "staticmethod": Symbol("builtins", "staticmethod"),
}


def TIMEOUT() -> Parameter:
    """What `result()` takes."""
    return Parameter("timeout", Kind.POSITIONAL, union([name("builtins", "float"), NONE()]), "None")


_PROPERTIES = ("property", "functools.cached_property", "abc.abstractproperty", "types.DynamicClassAttribute")


class Functions:
    """Reads functions. Says through `report` whose types aren't known."""

    def __init__(self, facing: Facing, report: Callable[[str], None]) -> None:
        self.facing = facing
        self._report = report

    def method(
        self,
        nodes: Sequence[Function],
        scope: Scope,
        path: str,
        *,
        as_name: str | None = None,
        is_property: bool = False,
    ) -> list[Callee]:
        """All signatures of one method: one, or its overloads, or the accessors of a property."""
        marked = [(node, self._marks(node, scope)) for node in nodes]
        if is_property or any("property" in marks for _, marks in marked):
            return self._property(marked, scope, path, as_name)
        overloads = [(node, marks) for node, marks in marked if "overload" in marks]
        if not overloads:
            return [self._signature(*marked[-1], scope, path, as_name)]
        doc = ast.get_docstring(marked[-1][0])
        overloads = self._for_async_self(overloads, scope)
        callees = [self._signature(node, marks, scope, path, as_name) for node, marks in overloads]
        if len(callees) == 1:
            del callees[0].decorators[0]
        callees[0].doc = callees[0].doc or doc
        return callees

    def callback(self, node: Function, scope: Scope, path: str) -> Callee:
        """`__call__` of a protocol of async functions, as a synchronous function has it: called with faces."""
        missing: list[str] = []
        scope = replace(scope, unknown=missing.append).inside(node)
        parameters = list(self._parameters(node, scope, True, missing, self.facing.returned))
        returns = scope.read(node.returns)
        if not isinstance(node, ast.AsyncFunctionDef):
            returns = self.facing.returned(returns)
        if missing:
            self._report(f"{path}: no known type for {', '.join(dict.fromkeys(missing))}")
        type_parameters = self._type_parameters(node, scope)
        return Callee(
            node.name, parameters, self.facing.taken(returns), [], ast.get_docstring(node), type_parameters
        )

    def dynamic(self, value: Any, called: str, path: str, mark: str | None = None) -> Callee:
        """A method that has no source: its parameters are known at most by name."""
        try:
            signature = inspect.signature(value)
        except (TypeError, ValueError):
            parameters = [
                Parameter("args", Kind.VAR_POSITIONAL, Reference(INCOMPLETE)),
                Parameter("kwargs", Kind.VAR_KEYWORD, Reference(INCOMPLETE)),
            ]
            if mark != "staticmethod":
                parameters.insert(0, Parameter("self", Kind.POSITIONAL, None))
        else:
            parameters = [
                Parameter(
                    parameter.name,
                    Kind(parameter.kind),
                    Reference(INCOMPLETE) if index or mark == "staticmethod" else None,
                    None if parameter.default is parameter.empty else "...",
                )
                for index, parameter in enumerate(signature.parameters.values())
            ]
        self._report(f"{path}: made at run time, its types are unknown")
        doc = inspect.getdoc(value)
        decorators: list[ast.expr] = [Reference(MARKS[mark])] if mark else []
        returns = NONE() if called == "__init__" else Reference(INCOMPLETE)
        return Callee(called, parameters, returns, decorators, doc)

    # One signature

    def _signature(
        self, node: Function, marks: set[str], scope: Scope, path: str, as_name: str | None = None
    ) -> Callee:
        missing: list[str] = []
        scope = replace(scope, unknown=missing.append).inside(node)
        is_method = bool(scope.owners) and "staticmethod" not in marks
        parameters = list(self._parameters(node, scope, is_method, missing, self.facing.taken))
        called = as_name or node.name
        if called in ("__init__", "__init_subclass__"):
            returns: ast.expr = NONE()
        else:
            returns = self._returns(node, marks, scope, missing)
        if called in PROTOCOL_METHODS:
            if called == "__await__":
                parameters.append(TIMEOUT())
            called = RENAMED[called]
        if missing:
            self._report(f"{path}: no known type for {', '.join(dict.fromkeys(missing))}")
        decorators: list[ast.expr] = [Reference(MARKS[mark]) for mark in MARKS if mark in marks]
        return Callee(
            called,
            parameters,
            returns,
            decorators,
            ast.get_docstring(node),
            self._type_parameters(node, scope),
        )

    def _returns(self, node: Function, marks: set[str], scope: Scope, missing: list[str]) -> ast.expr:
        facing = self.facing
        declared = facing.result(node, scope)
        if node.returns is None and _has_incomplete(declared):
            missing.append("its result")
        head = declared.value if isinstance(declared, ast.Subscript) else declared
        args = arguments(declared)
        known = str(head.symbol) if isinstance(head, Reference) else ""
        if "asynccontextmanager" in marks:
            return facing.manager(args[0] if args else Reference(INCOMPLETE))
        if "contextmanager" in marks:
            return subscript(name("contextlib", "AbstractContextManager"), args[:1]) if args else declared
        if node.name == "__await__":
            return facing.returned(args[2]) if len(args) == 3 else Reference(INCOMPLETE)
        if isinstance(node, ast.AsyncFunctionDef) and known == "collections.abc.Awaitable" and args:
            # What a coroutine gives to be awaited in turn is work under way.
            return subscript(name("asyncio_thread_loop", "Future"), [facing.returned(args[0])])
        is_plain_iterator = known in (
            "collections.abc.Iterator",
            "collections.abc.Iterable",
            "collections.abc.Generator",
        )
        if is_plain_iterator and (is_generator(node) or node.name == "__iter__"):
            item = facing.returned(args[0]) if args else Reference(ANY)
            return subscript(
                name("asyncio_thread_loop", "SyncIterator"), [item]
            )  # its code, too, runs on the loop
        if node.name == "__aiter__" and known == "collections.abc.AsyncIterable":
            return subscript(name("asyncio_thread_loop", "SyncIterator"), map(facing.returned, args[:1]))
        return facing.computed(declared) if "property" in marks else facing.returned(declared)

    def _parameters(
        self,
        node: Function,
        scope: Scope,
        is_method: bool,
        missing: list[str],
        turn: Callable[[ast.expr], ast.expr],
    ) -> Iterator[Parameter]:
        args = node.args
        positional = [*args.posonlyargs, *args.args]
        defaults = [None] * (len(positional) - len(args.defaults)) + list(args.defaults)
        for index, (arg, default) in enumerate(zip(positional, defaults, strict=True)):
            kind = Kind.POSITIONAL_ONLY if index < len(args.posonlyargs) else Kind.POSITIONAL
            if index == 0 and is_method:
                yield Parameter(arg.arg, kind, self._self_annotation(arg, scope))
            else:
                yield self._parameter(arg, kind, default, scope, missing, turn)
        if args.vararg is not None:
            yield self._parameter(args.vararg, Kind.VAR_POSITIONAL, None, scope, missing, turn)
        for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
            yield self._parameter(arg, Kind.KEYWORD_ONLY, default, scope, missing, turn)
        if args.kwarg is not None:
            yield self._parameter(args.kwarg, Kind.VAR_KEYWORD, None, scope, missing, turn)

    def _parameter(
        self,
        arg: ast.arg,
        kind: Kind,
        default: ast.expr | None,
        scope: Scope,
        missing: list[str],
        turn: Callable[[ast.expr], ast.expr],
    ) -> Parameter:
        if arg.annotation is None:
            annotation: ast.expr = Reference(INCOMPLETE)
            missing.append(arg.arg)
        else:
            read = scope.read(arg.annotation)
            annotation = read if _is_unpacked(read) else turn(read)
        if isinstance(default, ast.Constant) and default.value is None and self._refuses_none(annotation):
            annotation = union([annotation, NONE()])  # as older code means it
        return Parameter(arg.arg, kind, annotation, None if default is None else simple_default(default))

    def _refuses_none(self, annotation: ast.expr) -> bool:
        """Whether a type is made of classes only, none of which has None among its objects."""
        for part in union_parts(annotation):
            part = part.original if isinstance(part, Either) else part
            head = part.value if isinstance(part, ast.Subscript) else part
            if not isinstance(head, Reference):
                return False
            if head.symbol.module in ("typing", "_typeshed") or str(head.symbol) == "builtins.object":
                return False
            if not is_standard(head.symbol.module) and self.facing.class_definition(head.symbol) is None:
                return False
        return True

    def _self_annotation(self, arg: ast.arg, scope: Scope) -> ast.expr | None:
        """Kept where it tells something: a type variable, or the arguments of a generic class."""
        if arg.annotation is None:
            return None
        read = scope.read(arg.annotation)
        head = read.value if isinstance(read, ast.Subscript) else read
        if isinstance(head, ast.Name) or self.facing.type_variables(read):
            return self.facing.returned(read)
        if (
            isinstance(read, ast.Subscript)
            and isinstance(head, Reference)
            and not is_standard(head.symbol.module)
        ):
            return self.facing.returned(read)
        return None

    def _type_parameters(self, node: Function, scope: Scope) -> list[ast.AST]:
        return [type_parameter(each, scope, self.facing) for each in getattr(node, "type_params", ())]

    # Several

    def _property(
        self, marked: Sequence[tuple[Function, set[str]]], scope: Scope, path: str, as_name: str | None
    ) -> list[Callee]:
        callees = []
        for node, marks in marked:
            if "deleter" in marks:
                continue
            callee = self._signature(node, marks | {"property"}, scope, path, as_name)
            if "setter" in marks:
                callee.decorators = [ast.Attribute(ast.Name(callee.name), "setter", ast.Load())]
            else:
                callee.decorators = [*callee.decorators, name("builtins", "property")]
            callees.append(callee)
        return callees

    def _for_async_self(
        self, overloads: list[tuple[Function, set[str]]], scope: Scope
    ) -> list[tuple[Function, set[str]]]:
        """Where overloads tell an async client from a sync one by the type of `self`, those of the async one."""

        def self_type(node: Function) -> str | None:
            first = [*node.args.posonlyargs, *node.args.args][:1]
            return ast.unparse(first[0].annotation) if first and first[0].annotation is not None else None

        selves = {self_type(node) for node, _ in overloads}
        if None in selves or len(selves) < 2:
            return overloads
        chosen = {self_type(node) for node, _ in overloads if self.facing.is_async_function([node], scope)}
        return [each for each in overloads if self_type(each[0]) in chosen] if chosen else overloads

    def _marks(self, node: Function, scope: Scope) -> set[str]:
        """What the decorators say."""
        marks = set()
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Attribute) and decorator.attr in ("setter", "deleter", "getter"):
                marks |= {"property", decorator.attr}
                continue
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            symbol = scope.symbol(called)
            known = str(symbol).removeprefix("builtins.") if symbol is not None else ast.unparse(called)
            last = known.rpartition(".")[2]
            if known in _PROPERTIES or last.endswith("property"):
                marks.add("property")
            if last in (
                *MARKS,
                "contextmanager",
                "asynccontextmanager",
                "abstractclassmethod",
                "abstractstaticmethod",
            ):
                marks.add(last.removeprefix("abstract"))
        return marks


def _has_incomplete(expression: ast.expr) -> bool:
    return any(isinstance(node, Reference) and node.symbol == INCOMPLETE for node in ast.walk(expression))


def _is_unpacked(expression: ast.expr) -> bool:
    if isinstance(expression, ast.Starred):
        return True
    head = expression.value if isinstance(expression, ast.Subscript | ast.Attribute) else expression
    return isinstance(head, Reference) and (
        head.symbol.name == "Unpack" or isinstance(expression, ast.Attribute)
    )


def simple_default(default: ast.expr) -> str:
    """The default as source if it is a short literal, else `...`."""
    match default:
        case ast.Constant(value=value) if value is None or isinstance(
            value, bool | int | float | str | bytes
        ):
            text = literal(value)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            text = f"-{number!r}"
        case ast.Tuple(elts=[]):
            text = "()"
        case _:
            return "..."
    return text if len(text) <= 40 else "..."


def type_parameter(node: Any, scope: Scope, facing: Facing) -> ast.AST:
    """A type parameter in brackets, its bound and default turned to faces."""
    changed = {
        field: facing.returned(scope.read(getattr(node, field)))
        for field in ("bound", "default_value")
        if getattr(node, field, None) is not None
    }
    return type(node)(**{**dict(ast.iter_fields(node)), **changed})  # type: ignore[no-any-return]
