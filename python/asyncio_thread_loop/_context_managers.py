"""Async context managers as context managers: `__aenter__` and `__aexit__` run in one task on the loop."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from ._errors import LoopClosedError
from ._native import boundary
from ._single_task import Outcome, SingleTask, attempt, name_of, reraise

if TYPE_CHECKING:
    from ._loop import AsyncioThreadLoop

__all__ = ["Held", "SyncContextManager", "enter_async_context"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

#: What `__exit__` is told of the body.
Body = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


class SyncContextManager(AbstractContextManager[T_co, bool]):
    """An async context manager as a context manager. Made by `AsyncioThreadLoop.wrap_async_context_manager`.

    What the body raises reaches `__aexit__`, which may suppress it. An exit that has begun is waited for.
    """

    def __init__(
        self,
        loop: AsyncioThreadLoop,
        async_context_manager: AbstractAsyncContextManager[Any, Any],
        convert: Callable[[Any], Any] | None = None,
    ) -> None:
        check(async_context_manager)
        self._loop = loop
        self._async_context_manager = async_context_manager
        #: Is called with what `__aenter__` gives.
        self._convert = convert
        self._held: Held | None = None

    @boundary
    def __enter__(self) -> T_co:
        """Raises `RuntimeError` while it is entered already, and otherwise as `evaluate` does."""
        if self._held is not None:
            raise RuntimeError(f"{self._async_context_manager!r} has been entered and not been left")
        self._held = Held(self._loop, self._async_context_manager)
        try:
            value = self._held.enter("__enter__")
        except BaseException:
            self._held = None
            raise
        result: T_co = value if self._convert is None else self._convert(value)
        return result

    @boundary
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool:
        """Raises `RuntimeError` if it isn't entered, and otherwise as `evaluate` does."""
        held, self._held = self._held, None
        if held is None:
            raise RuntimeError(f"{self._async_context_manager!r} has not been entered")
        return held.exit((exc_type, exc_val, exc_tb))


def check(given: object) -> None:
    """Raises `TypeError` for what isn't an async context manager."""
    kind = type(given)
    if hasattr(kind, "__aenter__") and hasattr(kind, "__aexit__"):
        return
    hint = ""
    if hasattr(kind, "__enter__"):
        hint = ", which is a plain one: use it as it is"
    elif inspect.isfunction(given):
        hint = ": call the function first"
    raise TypeError(f"an async context manager was expected, got {given!r}{hint}")


class Held(SingleTask):
    """An async context manager in its task, from `__aenter__` to `__aexit__`."""

    def __init__(
        self, loop: AsyncioThreadLoop, async_context_manager: AbstractAsyncContextManager[Any, Any]
    ) -> None:
        generator = getattr(async_context_manager, "gen", None)  # of `asynccontextmanager`
        super().__init__(loop, f"context of {name_of(generator or async_context_manager)}")
        self._async_context_manager = async_context_manager
        #: What came of `__aexit__`, for whoever asks.
        self._left: Outcome = (False, None)

    # The thread that has the body.

    def enter(self, call: str) -> Any:
        """What `__aenter__` gives."""
        self.start(call)
        return self.evaluate(self.ask(()))

    def exit(self, body: Body) -> bool:
        """Whether `__aexit__` suppressed the error of the body."""
        if self.is_inherited:
            return False  # It goes on in the parent.
        if not self.is_over:
            try:
                return self.evaluate(self.leave(body))
            except LoopClosedError:
                # The exit of the loop leaves it. If that gave up, nothing is known.
                self.join()
                if not self.is_over:
                    raise
        return self._outcome(body)

    def _outcome(self, body: Body) -> bool:
        (suppressed, error), self._left = self._left, (False, None)
        if error is None:
            return bool(suppressed)
        if isinstance(error, asyncio.CancelledError) and body[1] is not None:
            return False  # It was cancelled, but the body has an error of its own.
        reraise(error)

    # The loop's thread.

    async def leave(self, body: Body) -> bool:
        """The same on the loop."""
        if not self.is_over:
            await self.ask(body)
        return self._outcome(body)

    def entered(self) -> None:
        """`__aenter__` has succeeded, and `__aexit__` is to come."""

    async def serve(self) -> None:
        this = self._async_context_manager
        await self.next_request()
        outcome = await attempt(type(this).__aenter__(this))
        is_wanted = self.answer(outcome)
        if outcome[1] is not None:
            return
        del outcome
        self.entered()
        cancelled: asyncio.CancelledError | None = None
        body: Body
        try:
            if not is_wanted:
                raise asyncio.CancelledError  # The thread that entered has been interrupted, and won't leave.
            body = await self.next_request()
        except asyncio.CancelledError as error:
            # Or a cancel scope, a timeout or a task group that it holds has ended, or the loop is being left.
            cancelled = error
            body = (type(error), error, error.__traceback__)
        suppressed, failure = await attempt(type(this).__aexit__(this, *body))
        if failure is not None and failure is body[1]:
            # Raising it again is not suppressing it.
            suppressed, failure = False, None
            body[1].__traceback__ = body[2]
        if cancelled is not None and failure is None and not suppressed:
            failure = cancelled
        self._left = (suppressed and cancelled is None, failure)
        if not self.answer((None, None)) and cancelled is None and failure is not None:
            self.report(failure)


def enter_async_context(
    loop: AsyncioThreadLoop, async_context_manager: AbstractAsyncContextManager[T, Any]
) -> T:
    check(async_context_manager)
    value: T = _Owned(loop, async_context_manager).enter("enter_async_context")
    return value


class _Owned(Held):
    """A context that the loop leaves when it is left itself."""

    def entered(self) -> None:
        session = self.loop._session
        if session is not None and session.loop is self.event_loop:
            session.contexts.append(self)
