"""Synchronous callbacks of asynchronous originals: they run in worker threads."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .addresses import address

if TYPE_CHECKING:
    from .faces import Faces

__all__ = ["Callback", "callback"]


class Callback:
    """Stands for a synchronous callback where an original gets one.

    Called on the loop's thread, it has the callback run by the loop's default executor, in the context of the call, and
    returns an awaitable: the original awaits it or doesn't. Elsewhere it just calls. Either way the callback gets
    faces, and faces that it returns are unwrapped.
    """

    def __init__(self, faces: Faces, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function, updated=())
        self._faces = faces
        self.function = function

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        if not self._faces.run_here:
            return self._run(args, kwargs)
        context = contextvars.copy_context()
        return asyncio.get_running_loop().run_in_executor(None, lambda: context.run(self._run, args, kwargs))

    def _run(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        present = self._faces.present
        result = self.function(*map(present, args), **{name: present(kwargs[name]) for name in kwargs})
        return self._faces.unwrap(result)

    def __repr__(self) -> str:
        return f"<in a worker thread: {self.function!r}>"


def callback(faces: Faces, function: Callable[..., Any]) -> Callable[..., Any]:
    """What an original gets for a function. The same function gives the same as long as that is in use."""
    key = address(function)
    found: Callback | None = faces.callbacks.get(*key)
    if found is not None and found.function == function:
        return found
    made = Callback(faces, function)
    faces.callbacks.replace(made, *key)
    return made
