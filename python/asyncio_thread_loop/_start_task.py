"""How a task tells its starter that it is ready, as in anyio."""

from __future__ import annotations

import concurrent.futures
from typing import Any, Generic, TypeVar

from ._future import Future
from ._native import Portal, Waiting

__all__ = ["TaskStatus"]


T = TypeVar("T")


class TaskStatus(Generic[T]):
    """Given to the coroutine function of `start_task` as `task_status`."""

    def __init__(self) -> None:
        self._ready: Future[T | None] = Future()
        self.unfinished: tuple[Future[Any], ...] = ()

    def started(self, value: T | None = None) -> None:
        """Lets `start_task` return, with this value. Raises `RuntimeError` when called twice."""
        if self._ready.done():
            raise RuntimeError("started() was called twice on the same task status")
        self._ready.set_result(value)

    def wait_for(self, future: Future[Any], portal: Portal | None) -> Any:
        """The value, or the error of a task that ended without one. Ctrl-C cancels the task."""
        self.unfinished = (future,)
        future.add_done_callback(self._ended)
        try:
            with Waiting(portal, self, False):
                return self._ready.result()
        except concurrent.futures.CancelledError:
            # Its own error isn't kept in here: the coroutine's frame, to which that leads, holds this status.
            future.result()
            raise RuntimeError("the task ended without calling task_status.started()") from None
        except BaseException:
            future._cancel_once()
            raise
        finally:
            self.unfinished = ()

    def done(self) -> bool:
        """Whether `wait_for` has something to return."""
        return self._ready.done()

    def _ended(self, _future: Future[Any]) -> None:
        self._ready.cancel()  # which does nothing once it is done


TaskStatus.__module__ = "asyncio_thread_loop"
