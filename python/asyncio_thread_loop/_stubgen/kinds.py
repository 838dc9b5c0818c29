"""What becomes of the instances of a class when they are a result: the rules of `to_sync`."""

from __future__ import annotations

import asyncio
import enum
import inspect
from typing import Any

__all__ = ["Kind", "is_async_function", "kind_of"]


class Kind(enum.Enum):
    #: They are handed out as they are.
    PLAIN = 0
    #: They are good for nothing but being awaited, and are.
    AWAITED = 1
    #: Work that is under way: they come out as a `Future`.
    FUTURE = 2
    #: They come out as a face.
    FACE = 3


def kind_of(cls: type) -> Kind:
    # Classes are handed out as they are, and so are event loops: they are asyncio's, not the library's.
    if issubclass(cls, type) or issubclass(cls, asyncio.AbstractEventLoop):
        return Kind.PLAIN
    if hasattr(cls, "_asyncio_future_blocking"):
        return Kind.FUTURE
    is_entered_or_iterated = any(hasattr(cls, name) for name in ("__aenter__", "__aiter__", "__anext__"))
    if hasattr(cls, "__await__") and not is_entered_or_iterated:
        return Kind.AWAITED
    members = (member for base in cls.__mro__ for member in vars(base).values())
    return Kind.FACE if is_entered_or_iterated or any(map(is_async_function, members)) else Kind.PLAIN


def is_async_function(member: Any) -> bool:
    """Whether it is a coroutine function or an async generator function, or a decorated one, or a property of one."""
    if isinstance(member, property):
        member = member.fget
    if isinstance(member, classmethod | staticmethod):
        member = member.__func__
    if not inspect.isroutine(member):
        return False
    member = inspect.unwrap(member)
    marked = getattr(member, "_is_coroutine", None) is not None  # as asyncio marks compiled functions
    return marked or inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member)
