"""What becomes of a type on the synchronous side: what a call returns, what it takes, what an attribute is.

The rules are those of `to_sync`: where it asks for the class of an object, this asks for the class that an annotation
names, the very same class if it can be imported.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Sequence

from .._faces.kinds import Kind
from .expressions import Either, Reference, arguments, key, name, subscript, union, union_parts
from .hierarchy import ASYNC_MANAGER, AWAITABLE, FUTURES, ITERATION, Hierarchy, argument, head_of
from .scope import INCOMPLETE, NONE, Scope, is_any
from .sources import Symbol

__all__ = ["Facing"]

_FUTURE = Symbol("asyncio_thread_loop", "Future")
_MANAGER = Symbol("contextlib", "AbstractContextManager")
_QUALIFIERS = ("typing.ClassVar", "typing.Final", "typing.Required", "typing.NotRequired", "typing.ReadOnly")


#: Turns a type around by its name and arguments, or leaves that to others.
Special = Callable[[ast.expr, Reference, Sequence[ast.expr]], ast.expr | None]
OfClass = Callable[[ast.expr, Reference, Sequence[ast.expr]], ast.expr]


class Facing(Hierarchy):
    """Turns types around, and remembers the classes whose faces they name."""

    def __init__(self, scope: Scope, targets: Iterable[Symbol] = ()) -> None:
        targets = list(targets)
        super().__init__(scope, targets)
        self._asked: dict[Symbol, None] = dict.fromkeys(targets)

    @property
    def asked(self) -> list[Symbol]:
        """The classes whose faces are needed so far, in the order they came up."""
        return list(self._asked)

    def face(self, symbol: Symbol, args: Sequence[ast.expr] = ()) -> ast.expr:
        self._asked.setdefault(symbol)
        face = Reference(symbol, face=True)
        return subscript(face, args) if args and self.class_definition(symbol) is not None else face

    def returned(self, expression: ast.expr) -> ast.expr:
        """What a synchronous call gives for what the async one declares. The same object if nothing changes."""
        return self._turned(expression, self._returned, self._returned_object)

    def computed(self, expression: ast.expr) -> ast.expr:
        """What a property gives: as a call would, but an async function is one to call."""
        return self._turned(expression, self._computed, self._returned_object)

    def held(self, expression: ast.expr) -> ast.expr:
        """What a stored attribute gives: reading it awaits nothing, and an async function is one to call."""
        return self._turned(expression, self._held, self._held_object)

    def taken(self, expression: ast.expr) -> ast.expr:
        """What the synchronous call takes for what the async one declares: synchronous callbacks and faces, too."""
        return self._turned(expression, self._taken, self._taken_object)

    def manager(self, value: ast.expr, exits: Sequence[ast.expr] = ()) -> ast.expr:
        """The context manager made of an async one that gives `value`."""
        leaving = exits[0] if exits else union([name("builtins", "bool"), NONE()])
        return subscript(Reference(_MANAGER), [self.returned(value), leaving])

    def _turned(self, expression: ast.expr, special: Special, of_class: OfClass) -> ast.expr:
        """Each alternative of a type, turned around as it is special, as the alias stands for, or as its class is."""
        parts = union_parts(expression)
        if len(parts) > 1:
            turned = [self._turned(part, special, of_class) for part in parts]
            if all(map(_is, turned, parts)):
                return expression
            return next(filter(is_any, turned), None) or union(turned)
        head, args = head_of(expression), arguments(expression)
        if head is None:
            return expression
        found = special(expression, head, args)
        if found is not None:
            return found
        alias = self.expanded(head.symbol, args)
        if alias is None:
            return of_class(expression, head, args)
        turned_alias = self._turned(alias, special, of_class)
        return expression if turned_alias is alias else turned_alias

    def _returned(self, expression: ast.expr, head: Reference, args: Sequence[ast.expr]) -> ast.expr | None:
        known = str(head.symbol)
        if known in AWAITABLE:
            return self.returned(argument(args, AWAITABLE[known]))
        if known in FUTURES:
            return subscript(Reference(_FUTURE), [self.returned(argument(args, 0))])
        if known in ITERATION:
            items = [self.returned(argument(args, 0))]
            if known.endswith("Generator"):
                items.append(args[1] if len(args) > 1 else NONE())
            return subscript(Reference(ITERATION[known]), items)
        if known == ASYNC_MANAGER:
            return self.manager(argument(args, 0), args[1:])
        if known == "contextlib._AsyncGeneratorContextManager":  # what `asynccontextmanager` really makes
            return self.manager(argument(args, 0))
        if args and (known == "builtins.tuple" or known in _QUALIFIERS):
            turned = [self.returned(arg) for arg in args]
            return expression if all(map(_is, turned, args)) else subscript(head, turned)
        return None

    def _returned_object(self, expression: ast.expr, head: Reference, args: Sequence[ast.expr]) -> ast.expr:
        match self.kind(head.symbol):
            case Kind.FACE:
                return self.face(head.symbol, [self.returned(arg) for arg in args])
            case Kind.AWAITED:
                return self.returned(self.awaited(expression) or Reference(INCOMPLETE))
            case Kind.FUTURE:
                awaited = self.awaited(expression) or Reference(INCOMPLETE)
                return subscript(Reference(_FUTURE), [self.returned(awaited)])
        return expression

    def _computed(self, expression: ast.expr, head: Reference, args: Sequence[ast.expr]) -> ast.expr | None:
        is_function = str(head.symbol) == "collections.abc.Callable"
        return (self._held if is_function else self._returned)(expression, head, args)

    def _held(self, expression: ast.expr, head: Reference, args: Sequence[ast.expr]) -> ast.expr | None:
        known = str(head.symbol)
        if known in AWAITABLE:
            return expression
        if known == "collections.abc.Callable" and len(args) == 2:
            given, result = args[0], self.returned(args[1])
            if isinstance(given, ast.List):
                given = ast.List([self.taken(each) for each in given.elts], ast.Load())
            return expression if result is args[1] else subscript(head, [given, result])
        return self._returned(expression, head, args)

    def _held_object(self, expression: ast.expr, head: Reference, args: Sequence[ast.expr]) -> ast.expr:
        is_awaited = self.kind(head.symbol) is Kind.AWAITED
        return expression if is_awaited else self._returned_object(expression, head, args)

    def _taken(self, expression: ast.expr, head: Reference, args: Sequence[ast.expr]) -> ast.expr | None:
        is_function = str(head.symbol) == "collections.abc.Callable" and len(args) == 2
        return self._callback(expression, head, args) if is_function else None

    def _taken_object(self, expression: ast.expr, head: Reference, args: Sequence[ast.expr]) -> ast.expr:
        if self.is_callback(head.symbol):
            return Either(expression, self.face(head.symbol, args))
        if self.kind(head.symbol) is Kind.FACE and self.class_definition(head.symbol) is not None:
            face = Reference(head.symbol, face=True)
            return Either(expression, subscript(face, args) if args else face)
        return expression

    def _callback(self, expression: ast.expr, head: Reference, args: Sequence[ast.expr]) -> ast.expr:
        """A callback that is awaited may be synchronous: it gets faces, and returns the result itself."""
        given, result = args
        awaited = self._awaited_parts(result)
        if not awaited:
            return expression
        together = union([result, *awaited])
        if key(together) == key(result):
            return expression
        if isinstance(given, ast.List):
            turned = [self.returned(each) for each in given.elts]
            if not all(map(_is, turned, given.elts)):
                plain = subscript(head, [ast.List(turned, ast.Load()), union(map(self.taken, awaited))])
                return union([expression, plain])
        return subscript(head, [given, together])

    def _awaited_parts(self, result: ast.expr) -> list[ast.expr]:
        found: list[ast.expr] = []
        for part in union_parts(result):
            head, args = head_of(part), arguments(part)
            if head is None:
                continue
            if (place := AWAITABLE.get(str(head.symbol))) is not None:
                found.append(argument(args, place))
            elif (alias := self.expanded(head.symbol, args)) is not None:
                found += self._awaited_parts(alias)
        return found


def _is(one: object, other: object) -> bool:
    return one is other
