"""What runs on the loop's thread when something plain is done to an original."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .._native import FaceCore
from .kinds import is_awaited

if TYPE_CHECKING:
    from .classes import Face
    from .functions import Method

__all__ = ["call_function", "call_member", "construct", "delete", "read", "steps", "take_next", "write"]


async def call_function(fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What a function returns, or what comes of the coroutine that it returns."""
    result = fn(*args, **kwargs)
    return await result if is_awaited(result) else result


async def call_member(
    method: Method, face: Face, original: object, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """The same for a method of an original."""
    result = _member(method, face, original)(*args, **kwargs)
    return await result if is_awaited(result) else result


def _member(method: Method, face: FaceCore, original: object) -> Any:
    """The original's method that a face's method stands for."""
    owner, name = method.owner, method.name
    for cls in type(face).__mro__:
        generated = vars(cls).get("__face__")
        if generated is not None and name in vars(cls):
            if generated.original is owner:
                return getattr(original, name)
            break
    # `super()`, or a method that was taken from the class of a base.
    raw = vars(owner).get(name, method.aio)
    return (
        raw.__get__(original, type(original)) if hasattr(raw, "__get__") else functools.partial(raw, original)
    )


async def construct(cls: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """An instance, which isn't awaited even if it could be."""
    return cls(*args, **kwargs)


async def read(original: object, name: str) -> Any:
    """What an attribute gives, or what comes of the coroutine that it gives."""
    result = getattr(original, name)
    return await result if is_awaited(result) else result


async def write(original: object, name: str, value: object) -> None:
    """Sets an attribute."""
    setattr(original, name, value)


async def delete(original: object, name: str) -> None:
    """Deletes an attribute."""
    delattr(original, name)


async def take_next(original: Any, default: object) -> Any:
    """The next item of an async iterator, or else of a plain one."""
    if not hasattr(type(original), "__anext__"):
        return next(original, default)
    try:
        return await type(original).__anext__(original)
    except StopAsyncIteration:
        return default


async def steps(make: Callable[[], Iterator[Any]]) -> AsyncGenerator[Any, Any]:
    """A plain iterator, step by step."""
    iterator = make()
    try:
        for item in iterator:
            yield item
    finally:
        if isinstance(iterator, Generator):
            iterator.close()
