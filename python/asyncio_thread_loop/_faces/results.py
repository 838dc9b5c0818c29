"""What a caller gets for the result of a call. Each of these takes the faces of a loop and the result."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from .._context_managers import SyncContextManager
from .._future import Future
from .._iterate import SyncIterator, iterate
from .callbacks import Callback
from .calls import steps
from .kinds import Kind, kind_of

if TYPE_CHECKING:
    from .faces import Faces

__all__ = ["converter"]


def converter(cls: type) -> Callable[[Faces, Any], Any] | None:
    """What converts results of a class. None if they are handed out as they are."""
    if cls is Callback:
        return _callback
    return _CONVERTERS.get(kind_of(cls))


def _tuple(faces: Faces, result: tuple[Any, ...]) -> tuple[Any, ...]:
    converted = tuple(map(faces.convert, result))
    return result if all(map(_is, converted, result)) else converted


def _is(one: object, other: object) -> bool:
    return one is other


def _awaited(faces: Faces, result: Any) -> Any:
    return faces.convert(faces.run(faces.awaiting(result)))


def _future(faces: Faces, result: asyncio.Future[Any]) -> Future[Any]:
    found: Future[Any] | None = faces.futures.get(id(result))
    if found is not None:
        return found
    event_loop = result.get_loop()
    future: Future[Any] = faces.loop.submit(faces.awaiting(result))

    def cancel_along(future: Future[Any]) -> None:
        # If it had begun to wait, it has done so itself.
        if future.cancelled() and not result.done():
            with contextlib.suppress(RuntimeError):  # A loop that has been closed has nothing to cancel.
                event_loop.call_soon_threadsafe(result.cancel)

    future.add_done_callback(cancel_along)
    # What waits keeps the asyncio future alive, so that nothing else gets its address.
    faces.futures.replace(future, id(result))
    return future


def _async_generator(faces: Faces, result: AsyncGenerator[Any, Any]) -> SyncIterator[Any]:
    return iterate(faces.loop, result, 0, faces.convert)


def _async_context_manager(
    faces: Faces, result: AbstractAsyncContextManager[Any, Any]
) -> SyncContextManager[Any]:
    return SyncContextManager(faces.loop, result, faces.convert)


def _generator(faces: Faces, result: Generator[Any, Any, Any]) -> SyncIterator[Any]:
    return iterate(faces.loop, steps(lambda: result), 0, faces.convert)


def _face(faces: Faces, result: Any) -> Any:
    return faces.face(result, is_result=True)


def _callback(faces: Faces, result: Callback) -> Callable[..., Any]:
    return result.function


_CONVERTERS: dict[Kind, Callable[[Faces, Any], Any]] = {
    Kind.TUPLE: _tuple,
    Kind.AWAITED: _awaited,
    Kind.FUTURE: _future,
    Kind.ASYNC_GENERATOR: _async_generator,
    Kind.ASYNC_CONTEXT_MANAGER: _async_context_manager,
    Kind.GENERATOR: _generator,
    Kind.FACE: _face,
}
