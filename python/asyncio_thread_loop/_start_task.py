"""How a task tells its starter that it is ready, as in anyio."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from ._future import Future

__all__ = ["TaskStatus"]


T = TypeVar("T")


class TaskStatus(Generic[T]):
    """Given to the coroutine function of `start_task` as `task_status`."""

    def __init__(self) -> None:
        self._ready: Future[T | None] = Future()

    def started(self, value: T | None = None) -> None:
        """Lets `start_task` return, with this value. Raises `RuntimeError` when called twice."""
        if self._ready.done():
            raise RuntimeError("started() was called twice on the same task status")
        self._ready.set_result(value)

    def wait_for(self, future: Future[Any]) -> Any:
        """The value, or the error of a task that ended without one. Ctrl-C cancels the task."""
        future.add_done_callback(self._ended)
        try:
            return self._ready.result()
        except BaseException:
            future.cancel()
            raise

    def _ended(self, future: Future[Any]) -> None:
        if self._ready.done():
            return
        if future.cancelled():
            self._ready.cancel()
        else:
            error = future.exception()
            self._ready.set_exception(
                RuntimeError("the task ended without calling task_status.started()")
                if error is None
                else error
            )


TaskStatus.__module__ = "asyncio_thread_loop"
