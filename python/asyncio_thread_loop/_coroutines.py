"""What may be submitted, and the coroutine it becomes."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, cast

__all__ = [
    "as_coroutine",
    "await_in_coroutine",
    "call_in_coroutine",
    "cancel_once",
    "close_unstarted",
    "is_async_callable",
]


#: `inspect` knows the marks of newer Pythons. Before 3.14 deprecated it, `asyncio` knew those of compiled functions.
_TESTS: list[Callable[[object], bool]] = [inspect.iscoroutinefunction]
if sys.version_info < (3, 14):
    _TESTS.append(asyncio.iscoroutinefunction)


def is_async_callable(fn: object) -> bool:
    """Whether `fn` is a coroutine function, a partial of one, or an object whose `__call__` is one."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    call = None if inspect.isroutine(fn) else getattr(type(fn), "__call__", None)  # noqa: B004
    return any(is_async(fn) or is_async(call) for is_async in _TESTS)


def as_coroutine(
    work: object, args: Sequence[object] = (), kwargs: Mapping[str, object] | None = None
) -> Coroutine[Any, Any, Any]:
    """The coroutine of an awaitable, or of a coroutine function with its arguments.

    Raises `TypeError` for anything else, without calling it.
    """
    if inspect.isawaitable(work):
        if args or kwargs:
            close_unstarted(work)
            raise TypeError(
                f"{work!r} takes no arguments any more: submit the coroutine alone, or the coroutine function "
                "with its arguments"
            )
        return await_in_coroutine(work)
    if isinstance(work, type) or not is_async_callable(work):
        is_plain: bool = callable(work)
        hint = "; to call a plain function on the loop's thread, use call()" if is_plain else ""
        raise TypeError(f"a coroutine, an awaitable or a coroutine function was expected, got {work!r}{hint}")
    return await_in_coroutine(cast(Callable[..., Awaitable[Any]], work)(*args, **(kwargs or {})))


def close_unstarted(*work: object) -> None:
    """Closes those that are coroutines nobody has started, so that Python doesn't warn about them."""
    for coroutine in work:
        if inspect.iscoroutine(coroutine) and inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
            coroutine.close()


def cancel_once(task: asyncio.Task[Any]) -> None:
    """Cancels a task unless it is being cancelled already: a second time would cut short its cleanup.

    On the loop's own thread, which alone knows whether it is.
    """
    if not task.cancelling():
        task.cancel()


async def call_in_coroutine(
    fn: Callable[..., Any], args: Sequence[object], kwargs: Mapping[str, object]
) -> Any:
    """A plain call as a coroutine."""
    return fn(*args, **kwargs)


def await_in_coroutine(awaitable: object) -> Coroutine[Any, Any, Any]:
    """The coroutine that awaits something. Raises `TypeError` for what can't be awaited."""
    if inspect.iscoroutine(awaitable):
        return awaitable
    if inspect.isawaitable(awaitable):
        return _await(awaitable)
    hint = "; call the coroutine function first" if is_async_callable(awaitable) else ""
    raise TypeError(f"a coroutine or another awaitable was expected, got {awaitable!r}{hint}")


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
