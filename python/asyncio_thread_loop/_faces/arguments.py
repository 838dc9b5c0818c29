"""What a function's parameters say about the callbacks that are given to it."""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, get_args, get_origin

from .annotations import UNKNOWN, resolved

__all__ = ["Parameters"]

_AWAITABLES: tuple[Any, ...] = (collections.abc.Awaitable, collections.abc.Coroutine, types.CoroutineType)

#: Annotations that leave open what a callback returns, or say that nobody looks at it.
_OPEN = (Any, object, None, types.NoneType, ...)


class Parameters:
    """Which parameters of a function take callbacks whose value is needed at once."""

    def __init__(self, function: Callable[..., Any], skip: int = 0) -> None:
        """`skip` of its parameters are no business of the caller's."""
        #: Whether it needs the value, for each parameter by name.
        self._need: dict[str, bool] = {}
        self._positional: list[str] = []
        #: The parameters for the other arguments.
        self._rest = self._keywords = ""
        try:
            parameters = list(inspect.signature(function).parameters.values())[skip:]
        except (TypeError, ValueError):
            return
        names = getattr(inspect.unwrap(function), "__globals__", {})
        for parameter in parameters:
            self._need[parameter.name] = _needs_value(resolved(parameter.annotation, names))
            if parameter.kind is parameter.VAR_POSITIONAL:
                self._rest = parameter.name
            elif parameter.kind is parameter.VAR_KEYWORD:
                self._keywords = parameter.name
            elif parameter.kind is not parameter.KEYWORD_ONLY:
                self._positional.append(parameter.name)

    def need_value(self, position: int | str) -> bool:
        """Whether the function needs the value of a callback given at a position, or by a name, at once.

        Only an annotation can say so: a `Callable` that returns neither an awaitable, nor None, Any or object.
        """
        if isinstance(position, str):
            name = position if position in self._need else self._keywords
        else:
            name = self._positional[position] if position < len(self._positional) else self._rest
        return self._need.get(name, False)


def _needs_value(annotation: Any) -> bool:
    returned = list(_returned_by_callbacks(annotation))
    return bool(returned) and not any(map(_may_wait, returned))


def _returned_by_callbacks(annotation: Any) -> Iterator[Any]:
    """What the callables return that an annotation admits."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        for each in arguments:
            yield from _returned_by_callbacks(each)
    elif origin is typing.Annotated:
        yield from _returned_by_callbacks(arguments[0])
    elif origin is collections.abc.Callable:
        yield arguments[-1]
    elif annotation in (collections.abc.Callable, typing.Callable):
        yield Any
    elif isinstance(annotation, TypeVar) and annotation.__bound__ is not None:
        yield from _returned_by_callbacks(resolved(annotation.__bound__, {}))
    elif isinstance(annotation, type) and getattr(annotation, "_is_protocol", False):
        call = vars(annotation).get("__call__")
        if call is not None:
            names = getattr(call, "__globals__", {})
            yield resolved(getattr(call, "__annotations__", {}).get("return", Any), names)
    elif (alias := getattr(annotation, "__value__", None)) is not None:  # a `type` statement
        yield from _returned_by_callbacks(alias)


def _may_wait(returned: Any) -> bool:
    """Whether a callback that is said to return this may return something to be awaited."""
    origin, arguments = get_origin(returned) or returned, get_args(returned)
    if any(returned is each for each in _OPEN) or isinstance(returned, UNKNOWN):
        return True
    if origin in (typing.Union, types.UnionType):
        # `Optional[str]` is a value, `Awaitable[str] | str` isn't.
        return any(_may_wait(each) for each in arguments if each is not types.NoneType)
    return isinstance(origin, type) and issubclass(origin, _AWAITABLES)
