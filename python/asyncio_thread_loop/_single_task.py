"""One task for many calls: what asyncio ties to a task holds from one call to the next.

A cancel scope, a task group, a timeout and a context variable belong to the task they were entered or set in. So an
async iterator lives in one task from its first item to its end, and a context manager from `__aenter__` to
`__aexit__`. That task serves: threads ask, each through a task of `evaluate`, which hands the request over and awaits
the answer. Whatever `evaluate` promises (Ctrl-C, deadlocks, forks, the exit of the loop) thereby holds for every ask.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import weakref
from collections.abc import Awaitable, Callable
from types import AsyncGeneratorType
from typing import TYPE_CHECKING, Any, NoReturn

from ._coroutines import cancel_once
from ._errors import DeadlockError, ForkedError, LoopClosedError
from ._future import Future

if TYPE_CHECKING:
    from ._loop import AsyncioThreadLoop
    from ._native import Portal

__all__ = ["Outcome", "SingleTask", "attempt", "name_of", "raised", "reraise"]

#: What came of something that was awaited: a value, or an error.
Outcome = tuple[Any, BaseException | None]

_serving: weakref.WeakKeyDictionary[asyncio.Task[Any], weakref.ref[SingleTask]] = weakref.WeakKeyDictionary()


def name_of(something: object) -> str:
    """The name of its function, if it has one, or of its class."""
    return str(getattr(something, "__qualname__", None) or type(something).__qualname__)


async def attempt(async_fn: Callable[..., Awaitable[Any]], *args: Any) -> Outcome:
    """Calls it and awaits that, and returns whatever comes of it."""
    try:
        return await async_fn(*args), None
    except BaseException as error:
        return raised(error)


def raised(error: BaseException) -> Outcome:
    """What came of an await in the calling function, without the frame of that: what it was given may be the error."""
    assert error.__traceback__ is not None
    return None, error.with_traceback(error.__traceback__.tb_next)


def reraise(error: BaseException) -> NoReturn:
    """Raises an error of the loop's where it comes out. What its caller handles just now has nothing to do with it."""
    if isinstance(error, asyncio.CancelledError):
        raise concurrent.futures.CancelledError from None
    context = error.__context__
    try:
        raise error
    finally:
        error.__context__ = context
        del error


class SingleTask:
    """A task that does what threads ask of it, one thing after another. A subclass says what in `serve`."""

    def __init__(self, loop: AsyncioThreadLoop, what: str) -> None:
        self.loop = loop
        self._what = what
        self.future: Future[None]
        self._portal: Portal
        # The rest is for the loop's thread alone.
        self.event_loop: asyncio.AbstractEventLoop | None = None
        self.task: asyncio.Task[None] | None = None
        #: Whether it has done all it will ever do.
        self.is_over: bool = False
        #: Whether it cleans up already, which no cancellation is to cut short.
        self.is_ending: bool = False
        self._resting: asyncio.Future[None] | None = None
        self._request: Any = None
        self._answer: asyncio.Future[Outcome] | None = None
        #: As it was at the last answer, and what had changed until then.
        self._context: contextvars.Context
        self._changes: dict[contextvars.ContextVar[Any], Any] = {}

    # The threads that ask.

    def start(self, call: str) -> None:
        """Has the task made. Raises `DeadlockError` on the loop's own thread, where nobody could ask it anything."""
        self.loop._refuse_own_thread(call)
        coroutine: Any = self._run()
        coroutine.__qualname__ = self._what  # which `dump()` shows, as it does what is asked
        self.future = self.loop.submit(coroutine)
        portal = self.loop._portal
        if portal is None:
            raise LoopClosedError(f"the loop was closed before this {self._what} began")
        self._portal = portal

    @property
    def is_inherited(self) -> bool:
        """Whether this is a forked child, and the task its parent's."""
        return self._portal.is_stale

    def evaluate(self, coroutine: Any, call: str) -> Any:
        """Runs an ask on the loop that has the task.

        Raises `LoopClosedError` if that one has been closed, `ForkedError` in a forked child, `DeadlockError` that
        names the call on the loop's own thread.
        """
        portal = self._portal
        if self.loop._portal is not portal or portal.is_stale:
            coroutine.close()
            raise self._gone()
        coroutine.__qualname__ = f"{call}() of the {self._what}"
        try:
            return self.loop.evaluate(coroutine)
        except DeadlockError as error:
            refusal = error
        self.loop._refuse_own_thread(call)
        raise refusal  # It is another one, of a circle of loops or of what was asked for.

    def join(self) -> None:
        """Waits for the end of the task, which the exit of the loop has asked to end."""
        with contextlib.suppress(Exception):
            self.future.result()

    def report(self, error: BaseException) -> None:
        """Tells the loop's exception handler of an error that nobody will ask for. From any thread."""
        if isinstance(error, asyncio.CancelledError):
            return
        assert self.event_loop is not None
        report = {"message": f"the {self._what} failed at its end", "exception": error}
        if asyncio._get_running_loop() is not self.event_loop:
            # On the loop's thread, as all reports; unless it has been closed.
            with contextlib.suppress(RuntimeError):
                self.event_loop.call_soon_threadsafe(self.event_loop.call_exception_handler, report)
                return
        self.event_loop.call_exception_handler(report)

    def _gone(self) -> Exception:
        if self._portal.is_stale:
            return ForkedError(f"this {self._what} belongs to the process that forked this one")
        return LoopClosedError(f"the loop that had this {self._what} has been closed")

    # Whoever describes what goes on.

    #: What it waits for when it rests.
    next_call: str

    @staticmethod
    def serves(task: asyncio.Task[Any]) -> bool:
        """Whether a task is of this kind: it has no end of its own that could be waited for."""
        return task in _serving

    @staticmethod
    def ends(task: asyncio.Task[Any]) -> bool:
        """Whether a task is of this kind and cleans up already."""
        reference = _serving.get(task)
        this = None if reference is None else reference()
        return this is not None and this.is_ending

    @staticmethod
    def resting(task: asyncio.Task[Any]) -> SingleTask | None:
        """Whose task it is, if it is of this kind and has nothing to do."""
        reference = _serving.get(task)
        this = None if reference is None else reference()
        return None if this is None or this._resting is None else this

    @property
    def generator(self) -> AsyncGeneratorType[Any, Any] | None:
        """What is suspended meanwhile, if it is a generator."""
        return None

    # The loop's thread.

    async def ask(self, request: Any) -> Any:
        """Hands a request over and returns the answer, or raises it. To be run by `evaluate`.

        Whoever is interrupted meanwhile takes the task along: its cleanup is waited for.
        """
        event_loop = asyncio.get_running_loop()
        if event_loop is not self.event_loop:
            raise self._gone()
        answer: asyncio.Future[Outcome] = event_loop.create_future()
        self._request, self._answer = request, answer
        self.wake()
        try:
            value, error = await answer
        except asyncio.CancelledError:
            await self.cancel()
            raise
        del answer
        for variable, changed in self._changes.items():
            variable.set(changed)  # in the task of whoever asked: from there `evaluate` carries it back
        if error is None:
            return value
        try:
            raise error
        finally:
            del error

    async def cancel(self) -> None:
        """Cancels the task, unless it is being cancelled or ends already, and waits for its end."""
        assert self.task is not None
        if not self.is_ending:
            cancel_once(self.task)
        await asyncio.wait({self.task})

    async def serve(self) -> None:
        """What the task does, request after request, until it is over. Raises nothing but `CancelledError`."""
        raise NotImplementedError

    async def next_request(self) -> Any:
        """The next thing to do. While there is nothing to do, this is where a cancellation arrives."""
        while self._request is None:
            await self.rest()
        request, self._request = self._request, None
        return request

    async def rest(self) -> None:
        """Waits for `wake`."""
        assert self.event_loop is not None
        self._resting = self.event_loop.create_future()
        try:
            await self._resting
        finally:
            self._resting = None

    def wake(self) -> None:
        """Ends its rest, if it rests."""
        if self._resting is not None and not self._resting.done():
            self._resting.set_result(None)

    @property
    def is_asked(self) -> bool:
        """Whether somebody waits for an answer."""
        return self._answer is not None and not self._answer.done()

    def answer(self, outcome: Outcome) -> bool:
        """Answers whoever asked. False if nobody waits for it any more."""
        # Not kept: an error leads to the frames of this task, and they to what it has.
        answer, self._answer = self._answer, None
        if answer is None or answer.done():
            return False
        answer.set_result(outcome)
        if self.loop._carries_context_back:
            self._context, before = contextvars.copy_context(), self._context
            self._changes = {
                variable: value
                for variable, value in self._context.items()
                if before.get(variable, before) is not value
            }
        return True

    async def _run(self) -> None:
        self.event_loop = asyncio.get_running_loop()
        self.task = asyncio.current_task()
        self._context = contextvars.copy_context()
        assert self.task is not None
        _serving[self.task] = weakref.ref(self)
        try:
            await self.serve()
        finally:
            self.is_over = True
            self.finished()

    def finished(self) -> None:
        """It is over: nobody is to wait for it any more."""
        if self._answer is not None:
            self._answer.cancel()
