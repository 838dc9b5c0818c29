"""What is asynchronous about an object: of which kind instances of a class are, what only makes a coroutine."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import functools
import inspect
import types
import weakref
from typing import Any

from .._coroutines import is_async_callable
from .._native import FaceCore

__all__ = [
    "Kind",
    "has_async_members",
    "is_async_function",
    "is_awaited",
    "kind_of",
    "leaves_to_object",
    "makes_coroutine",
]


class Kind(enum.Enum):
    """What becomes of the instances of a class when they are a result."""

    PLAIN = "plain"
    #: The elements are looked at.
    TUPLE = "tuple"
    #: Good for nothing but being awaited.
    AWAITED = "awaited"
    #: Work that is under way: comes out as a future.
    FUTURE = "future"
    #: An async generator: comes out as a generator.
    ASYNC_GENERATOR = "async generator"
    #: What `@asynccontextmanager` makes: comes out as a context manager.
    ASYNC_CONTEXT_MANAGER = "async context manager"
    #: A plain generator: its code, too, belongs on the loop's thread.
    GENERATOR = "generator"
    #: Comes out as a face.
    FACE = "face"


_FIXED: dict[type, Kind] = {
    tuple: Kind.TUPLE,
    types.CoroutineType: Kind.AWAITED,
    types.AsyncGeneratorType: Kind.ASYNC_GENERATOR,
    types.GeneratorType: Kind.GENERATOR,
}

_kinds: weakref.WeakKeyDictionary[type, Kind] = weakref.WeakKeyDictionary()

_CODE_FLAGS = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def kind_of(cls: type) -> Kind:
    """The kind of a class. It is found out once."""
    kind = _FIXED.get(cls)
    if kind is None:
        kind = _kinds.get(cls)
    if kind is None:
        kind = _kinds[cls] = _find_out(cls)
    return kind


def _find_out(cls: type) -> Kind:
    # Classes are handed out as they are, and so are loops, which are asyncio's and not the library's, and faces.
    if issubclass(cls, (type, asyncio.AbstractEventLoop, FaceCore)):
        return Kind.PLAIN
    if hasattr(cls, "_asyncio_future_blocking"):
        return Kind.FUTURE
    if issubclass(cls, contextlib._AsyncGeneratorContextManager):
        return Kind.ASYNC_CONTEXT_MANAGER
    if hasattr(cls, "__await__") and not any(
        hasattr(cls, name) for name in ("__aenter__", "__aiter__", "__anext__")
    ):
        return Kind.AWAITED
    return Kind.FACE if has_async_members(cls) else Kind.PLAIN


def is_awaited(result: object) -> bool:
    """Whether a result of a plain call has to be awaited to be of any use."""
    kind = kind_of(type(result))
    # Before `async def` there were generators for it.
    return kind is Kind.AWAITED or (kind is Kind.GENERATOR and inspect.isawaitable(result))


def has_async_members(cls: type) -> bool:
    """Whether a class has a coroutine method, an async generator method, or one of the asynchronous protocols."""
    if any(hasattr(cls, name) for name in ("__aenter__", "__aiter__", "__anext__", "__await__")):
        return True
    return any(is_async_function(member) for base in cls.__mro__ for member in vars(base).values())


def leaves_to_object(cls: type, *names: str) -> bool:
    """Whether a class has these special methods from `object`, so that calling them runs none of its code."""
    return all(getattr(cls, name) is getattr(object, name) for name in names)


def is_async_function(member: Any) -> bool:
    """Whether it is a coroutine function or an async generator function, or a decorated one, or a property of one."""
    if isinstance(member, property):
        member = member.fget
    while member is not None:
        if isinstance(member, (staticmethod, classmethod, types.MethodType)):
            member = member.__func__
        elif isinstance(member, (functools.partial, functools.partialmethod)):
            member = member.func
        elif not inspect.isroutine(member):
            return False
        elif is_async_callable(member) or inspect.isasyncgenfunction(member):
            return True
        else:
            member = getattr(member, "__wrapped__", None)
    return False


def makes_coroutine(function: Any) -> bool:
    """Whether calling it runs none of its code, but makes a coroutine or an async generator that will."""
    if isinstance(function, types.MethodType):
        function = function.__func__
    return isinstance(function, types.FunctionType) and bool(function.__code__.co_flags & _CODE_FLAGS)
