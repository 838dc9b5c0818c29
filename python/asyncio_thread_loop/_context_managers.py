"""Async context managers as context managers: `__aenter__` and `__aexit__` run in one task on the loop."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import AsyncGeneratorType, TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from ._coroutines import close_unstarted
from ._errors import DeadlockError, LoopClosedError
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
        held = Held(self._loop, self._async_context_manager)
        held.start("__enter__")
        self._held = held
        try:
            value = held.enter("__enter__")
            result: T_co = value if self._convert is None else self._convert(value)
            return result
        except BaseException:
            self._held = None
            held.drop()
            raise

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
        try:
            return held.exit((exc_type, exc_val, exc_tb))
        except DeadlockError:
            if not held.is_over:
                self._held = held  # It was refused, and is still to be left.
            raise


def check(given: object) -> None:
    """Raises `TypeError` for what isn't an async context manager."""
    kind = type(given)
    if hasattr(kind, "__aenter__") and hasattr(kind, "__aexit__"):
        return
    hint = ""
    if hasattr(kind, "__enter__"):
        hint = ", which is a plain one: use it as it is"
    elif inspect.iscoroutine(given):
        close_unstarted(given)
        hint = ": evaluate() it first, if it returns one"
    elif inspect.isfunction(given):
        hint = ": call the function first"
    raise TypeError(f"an async context manager was expected, got {given!r}{hint}")


class Held(SingleTask):
    """An async context manager in its task, from `__aenter__` to `__aexit__`."""

    next_call = "the end of its block"

    def __init__(
        self, loop: AsyncioThreadLoop, async_context_manager: AbstractAsyncContextManager[Any, Any]
    ) -> None:
        self._async_context_manager = async_context_manager
        generator = self.generator
        super().__init__(loop, f"context of {name_of(generator or async_context_manager)}")
        #: Nobody will leave it.
        self._is_dropped: bool = False
        #: What came of `__aexit__`, for whoever asks.
        self._left: Outcome = (False, None)

    # The thread that has the body.

    def enter(self, call: str) -> Any:
        """What `__aenter__` gives, once the task has been started."""
        return self.evaluate(self.ask(()), call)

    def drop(self) -> None:
        """Has it left by itself. It may have been entered in the very moment in which the wait for it failed."""
        self._is_dropped = True
        self.future._cancel_once()

    def exit(self, body: Body) -> bool:
        """Whether `__aexit__` suppressed the error of the body."""
        if self.is_inherited:
            return False  # It goes on in the parent.
        if not self.is_over:
            try:
                suppressed: bool = self.evaluate(self.leave(*body), "__exit__")
                return suppressed
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

    async def leave(self, *body: Any) -> bool:
        """The same on the loop."""
        if not self.is_over:
            await self.ask(body)
        return self._outcome(body)

    @property
    def generator(self) -> AsyncGeneratorType[Any, Any] | None:
        """That of `asynccontextmanager`."""
        generator = getattr(self._async_context_manager, "gen", None)
        return generator if isinstance(generator, AsyncGeneratorType) else None

    def entered(self) -> None:
        """`__aenter__` has succeeded, and `__aexit__` is to come."""

    async def serve(self) -> None:
        this = self._async_context_manager
        await self.next_request()
        outcome = await attempt(type(this).__aenter__, this)
        is_wanted = self.answer(outcome)
        is_entered = outcome[1] is None
        del outcome  # An error leads to this frame.
        if not is_entered:
            return
        if is_wanted:
            self.entered()
        else:
            self._is_dropped = True  # The thread that entered has been interrupted, and won't leave.
        cancelled: asyncio.CancelledError | None = None
        body: Body
        try:
            if self._is_dropped:
                raise asyncio.CancelledError
            body = await self.next_request()
        except asyncio.CancelledError as error:
            # Or a cancel scope, a timeout or a task group that it holds has ended, or the loop is being left.
            cancelled = error
            body = (type(error), error, None)
        suppressed, failure = await attempt(type(this).__aexit__, this, *body)
        if failure is not None and failure is body[1]:
            # Raising it again is not suppressing it.
            failure.__traceback__ = body[2]
            suppressed, failure = False, None
        if cancelled is not None and failure is None and not suppressed:
            failure = cancelled
        self._left = (suppressed and cancelled is None, failure)
        is_told = self.answer((None, None))
        if failure is not None and not is_told and (cancelled is None or self._is_dropped):
            self.report(failure)
        del body, cancelled, failure  # Errors lead to this frame.


def enter_async_context(
    loop: AsyncioThreadLoop, async_context_manager: AbstractAsyncContextManager[T, Any]
) -> T:
    check(async_context_manager)
    held = _Owned(loop, async_context_manager)
    held.start("enter_async_context")
    try:
        value: T = held.enter("enter_async_context")
        return value
    except BaseException:
        held.drop()
        raise


class _Owned(Held):
    """A context that the loop leaves when it is left itself."""

    next_call = "the end of the loop"

    #: Those that are left with it.
    _contexts: list[Held] | None = None

    def entered(self) -> None:
        session = self.loop._session
        if session is not None and session.loop is self.event_loop:
            session.contexts.append(self)
            self._contexts = session.contexts

    def finished(self) -> None:
        super().finished()
        if self._is_dropped and self._contexts is not None:
            self._contexts.remove(self)
