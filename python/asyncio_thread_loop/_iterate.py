"""Async iterators as iterators: one task on the loop makes the items, whoever calls `next` takes them."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import operator
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterator
from types import AsyncGeneratorType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from ._coroutines import close_unstarted
from ._errors import LoopClosedError
from ._native import boundary
from ._single_task import Outcome, SingleTask, name_of, raised, reraise

if TYPE_CHECKING:
    from ._loop import AsyncioThreadLoop

__all__ = ["SyncGenerator", "SyncIterator", "iterate"]

T_co = TypeVar("T_co", covariant=True)
S_contra = TypeVar("S_contra", contravariant=True)

#: Seconds for which items are made ahead before the rest of the loop has its turn.
_TURN = 0.001


def iterate(
    loop: AsyncioThreadLoop,
    async_iterable: AsyncIterable[Any],
    prefetch: int,
    convert: Callable[[Any], Any] | None = None,
) -> SyncIterator[Any]:
    """`convert` is called with each item, on the thread that takes it."""
    if not isinstance(async_iterable, AsyncIterable):
        raise TypeError(f"an async iterable was expected, got {async_iterable!r}{_hint(async_iterable)}")
    if operator.index(prefetch) < 0:
        raise ValueError(f"prefetch must not be negative, got {prefetch}")
    source = _Ahead(loop, async_iterable, prefetch) if prefetch else _OnDemand(loop, async_iterable)
    source.start("iterate")
    kind = SyncGenerator if isinstance(async_iterable, AsyncGenerator) else SyncIterator
    return kind(source, convert)


def _hint(given: object) -> str:
    if inspect.iscoroutine(given):
        close_unstarted(given)
        return ": evaluate() it first, if it returns one"
    if inspect.isasyncgenfunction(given):
        return ": call the async generator function first"
    return ""


class SyncIterator(Iterator[T_co]):
    """Takes the items of an async iterator, from any thread. Made by `AsyncioThreadLoop.iterate`.

    The async iterator runs in one task on the loop, from its first item to its end. Leaving early, by `break`, an
    exception, `close()` or the end of a `with` block, ends it: an async generator has its `finally` blocks run on the
    loop, at once.

    `next()` waits for the item, and raises what the async iterator raised. Ctrl-C meanwhile cancels the task, as it
    does for `evaluate`. It raises `DeadlockError` on the loop's own thread, `CancelledError` or `LoopClosedError` when
    the loop is closed meanwhile or was before, and `ForkedError` in a forked child. Unless items are made ahead, one
    thread at a time may take them: for a second one `next()` raises `ValueError`, as with a generator.

    >>> async def count(to):
    ...     for number in range(to):
    ...         yield number
    ...         await asyncio.sleep(0)
    >>> with AsyncioThreadLoop() as loop:
    ...     with loop.iterate(count(10)) as numbers:
    ...         next(numbers), next(numbers)
    (0, 1)
    """

    def __init__(self, source: _OnDemand | _Ahead, convert: Callable[[Any], Any] | None) -> None:
        self._source = source
        self._convert = convert

    def __iter__(self) -> Self:
        return self

    @boundary
    def __next__(self) -> T_co:
        return self._converted(self._source.next())

    def _converted(self, item: Any) -> T_co:
        converted: T_co = item if self._convert is None else self._convert(item)
        return converted

    @boundary
    def close(self) -> None:
        """Ends the iteration and waits until the async iterator has ended, its cleanup included. Idempotent.

        May be called from another thread than the one that waits in `next()`, which then ends as if there were no
        more items. Raises what an async generator raises when it is closed, a `RuntimeError` if it ignores that.
        Otherwise as `next()`; but what the exit of the loop has ended needs no closing.
        """
        self._source.close()

    def __enter__(self) -> Self:
        return self

    @boundary
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self._source.close()

    def __del__(self) -> None:
        self._source.abandon()


class SyncGenerator(SyncIterator[T_co], Generator[T_co, S_contra, None]):
    """A `SyncIterator` for an async generator: values can be sent and exceptions thrown into it.

    >>> async def echo():
    ...     received = None
    ...     while True:
    ...         received = yield received
    >>> with AsyncioThreadLoop() as loop, loop.iterate(echo()) as generator:
    ...     next(generator), generator.send("hello")
    (None, 'hello')
    """

    # `Generator` has a `close` and a `__next__` of its own, after those of `SyncIterator`.

    @boundary
    def send(self, value: S_contra, /) -> T_co:
        """Sends a value into the async generator and returns the next item.

        Raises as `next()` does, and `RuntimeError` for another value than None if items are made ahead.
        """
        return self._converted(self._source.next() if value is None else self._source.send(value))

    @boundary
    def throw(  # type: ignore[override]  # not the signature with three arguments, which is deprecated
        self, error: BaseException | type[BaseException], /
    ) -> T_co:
        """Raises an exception in the async generator, where it is suspended, and returns the next item.

        Raises as `next()` does, and `RuntimeError` if items are made ahead.
        """
        try:
            return self._converted(self._source.throw(error))
        finally:
            del error  # It may lead to this frame: the caller may have run the loop.


#: There is no further item.
_END: Final = object()


class _Iteration(SingleTask):
    """An async iterator in its task, and how it ends."""

    def __init__(self, loop: AsyncioThreadLoop, async_iterable: AsyncIterable[Any]) -> None:
        super().__init__(loop, f"iteration of {name_of(async_iterable)}")
        self._async_iterable = async_iterable
        #: Nobody will take items any more, or ask how it ended.
        self._is_dropped: bool = False
        #: What came without being asked for: when a scope that a generator holds has ended, and at the end.
        self._unasked: deque[Outcome] = deque()
        # The rest is for the loop's thread alone.
        self._iterator: Any = None
        self._has_ended = False
        #: Whether it was asked to end.
        self.is_closing: bool = False
        self._is_cancelled_to_end = False

    # The threads that take items.

    def close(self) -> None:
        if self.is_inherited:
            return
        if not self.is_over:
            try:
                self.evaluate(self._close(), "close")
            except LoopClosedError:
                self.join()
        self.discard()
        while self._unasked:
            _, error = self._unasked.popleft()
            # That it was cancelled is no news for whoever ends it.
            try:
                if not isinstance(error, asyncio.CancelledError):
                    self.tell(error)
            finally:
                del error  # It may lead to this frame: the caller may have run the loop.

    def abandon(self) -> None:
        """Ends it without waiting: from any thread, in the middle of anything."""
        if self.is_inherited:
            return
        self._is_dropped = True
        # In this order: what ends meanwhile has looked only after it was over.
        if self.is_over:
            self.report_unasked()
        elif self.event_loop is not None:
            # A loop that has been closed has ended it.
            with contextlib.suppress(RuntimeError):
                self.event_loop.call_soon_threadsafe(self._end)

    def take_unasked(self) -> Any:
        """What is left when it is over: an item, an error to raise, and finally nothing. After `close` nothing is."""
        if self.is_closing or not self._unasked:
            return _END
        item, error = self._unasked.popleft()
        self.tell(error)
        return item

    def tell(self, error: BaseException | None) -> None:
        """Raises an error that didn't come by way of `evaluate`, which notes where that was called."""
        if error is not None:
            with contextlib.suppress(Exception):  # of one that takes no notes
                error.add_note(f"submitted at {self.future._origin}")
            reraise(error)

    def discard(self) -> None:
        """Forgets items that nobody will take."""

    def report_unasked(self) -> None:
        """Tells of the errors that nobody will ask for."""
        self.discard()
        while self._unasked:
            _, error = self._unasked.popleft()
            if error is not None:
                self.report(error)

    # The loop's thread.

    @property
    def goes_on(self) -> bool:
        assert self.task is not None
        return not (self._has_ended or self.is_closing or self.task.cancelling())

    @property
    def generator(self) -> AsyncGeneratorType[Any, Any] | None:
        return self._iterator if isinstance(self._iterator, AsyncGeneratorType) else None

    async def serve(self) -> None:
        assert self.task is not None
        self.is_closing = self._is_dropped
        try:
            self._iterator = aiter(self._async_iterable)
        except BaseException as error:
            self._unasked.append(raised(error))
            return
        await self.make_items()
        if self._is_cancelled_to_end:
            self.task.uncancel()
        if not self._has_ended and self._is_ours_to_close():
            self.is_ending = True
            _, failure = await self.make("aclose")
            if isinstance(failure, BaseExceptionGroup):
                # A task group that it holds makes an error of everything, the end it was asked for included.
                _, failure = failure.split(GeneratorExit)
            if failure is not None:
                self._unasked.append((None, failure))
            del failure

    async def make_items(self) -> None:
        raise NotImplementedError

    async def make(self, method: str, *args: Any) -> Outcome:
        """Makes an item."""
        awaitable = None
        try:
            awaitable = getattr(self._iterator, method)(*args)
            return await awaitable, None
        except BaseException as error:
            return self.failed(error)
        finally:
            del args, awaitable  # What was thrown leads to this frame.

    def failed(self, error: BaseException) -> Outcome:
        """What came of an attempt to make an item."""
        if isinstance(error, StopAsyncIteration):
            self._has_ended = True
            return _END, None
        # A generator is over when its frame is gone; one that refused what it was given, or that somebody else runs,
        # isn't. Other iterators may go on.
        self._has_ended = self._is_generator and getattr(self._iterator, "ag_frame", None) is None
        return raised(error)

    async def cancel_between(self, cancelled: asyncio.CancelledError) -> Outcome:
        """The task was cancelled between two items: a cancel scope or a timeout that the generator holds across its
        `yield` has ended, or the loop is being left. Either is the generator's business, where it is suspended.

        Returns what it made of that. Other iterators hold nothing: they end.
        """
        cancelled.__traceback__ = None
        try:
            return await self.make("athrow", cancelled) if self._is_generator else (None, cancelled)
        finally:
            del cancelled  # It leads to this frame.

    def keep(self, outcome: Outcome) -> None:
        """For whoever asks next; or for nobody, if the end was asked for, which may have cancelled it."""
        item, error = outcome
        is_moot = self.is_closing and (error is None or isinstance(error, asyncio.CancelledError))
        if not (is_moot or item is _END):
            self._unasked.append(outcome)

    @property
    def _is_generator(self) -> bool:
        return isinstance(self._iterator, AsyncGenerator)

    def _is_ours_to_close(self) -> bool:
        """An object that is its own iterator, and no generator, was open before and stays so: a stream, a queue."""
        if self._is_generator:
            return True
        return self._iterator is not self._async_iterable and hasattr(self._iterator, "aclose")

    async def _close(self) -> None:
        assert self.task is not None
        self._end()
        try:
            await asyncio.wait({self.task})
        except asyncio.CancelledError:
            await self.cancel()  # Then it has ended, as it was to.

    def _end(self) -> None:
        if self.is_over or self.is_closing:
            return
        assert self.task is not None
        self.is_closing = True
        # While it rests it takes no notice of what has woken it. In the middle of an item that is cancelled, unless it
        # is already: a second time would cut short its cleanup.
        if not self.task.cancelling():
            self._is_cancelled_to_end = self.task.cancel()

    def finished(self) -> None:
        if self._is_dropped:
            self.report_unasked()


class _OnDemand(_Iteration):
    """Makes an item when one is asked for."""

    next_call = "next()"

    def __init__(self, loop: AsyncioThreadLoop, async_iterable: AsyncIterable[Any]) -> None:
        super().__init__(loop, async_iterable)
        self._in_use = threading.Lock()

    def next(self) -> Any:
        return self._take("next", "__anext__")

    def send(self, value: Any) -> Any:
        return self._take("send", "asend", value)

    def throw(self, error: BaseException | type[BaseException]) -> Any:
        try:
            if self.is_over:
                raise error
            return self._take("throw", "athrow", error)
        finally:
            del error  # It may lead to this frame: the caller may have run the loop.

    def _take(self, call: str, method: str, *args: Any) -> Any:
        if not self._in_use.acquire(blocking=False):
            if self.is_inherited:
                raise self._gone()
            raise ValueError(f"the {self._what} is in use by another thread")
        try:
            item = self.take_unasked() if self.is_over else self.evaluate(self._ask(method, *args), call)
        finally:
            self._in_use.release()
            del args  # An error to throw may lead to this frame.
        if item is _END:
            raise StopIteration
        return item

    # The loop's thread.

    async def _ask(self, method: str, *args: Any) -> Any:
        return self.take_unasked() if self.is_over else await self.ask((method, args))

    async def make_items(self) -> None:
        while self.goes_on:
            cancelled: asyncio.CancelledError | None = None
            request: Any = None
            try:
                request = await self.next_request()
            except asyncio.CancelledError as error:
                cancelled = error
            if self.is_closing:
                del cancelled  # It leads to this frame.
                break
            if cancelled is not None:
                self.keep(await self.cancel_between(cancelled))
                cancelled = None
            else:
                method, args = request
                if self._unasked and method != "athrow":
                    outcome = self._unasked.popleft()
                else:
                    outcome = await self.make(method, *args)
                self._hand_over(outcome)
                del request, args, outcome  # An error leads to this frame.

    def _hand_over(self, outcome: Outcome) -> None:
        if self.is_closing or not self.answer(outcome):
            self.keep(outcome)

    def finished(self) -> None:
        super().finished()
        if self.is_asked:
            is_left = self._unasked and not self.is_closing
            self.answer(self._unasked.popleft() if is_left else (_END, None))


class _Ahead(_Iteration):
    """Makes items ahead of those who take them, so many at most."""

    next_call = "next(), while its buffer is full"

    def __init__(self, loop: AsyncioThreadLoop, async_iterable: AsyncIterable[Any], prefetch: int) -> None:
        super().__init__(loop, async_iterable)
        self._prefetch = prefetch
        self._items: deque[Any] = deque()
        #: Whether the task rests until there is room. It goes on when half of the items have been taken.
        self._is_full = False
        self._low = prefetch // 2
        # The rest is for the loop's thread alone.
        self._is_awaited = False
        self._arrived = asyncio.Event()

    # The threads that take items.

    def next(self) -> Any:
        if self.is_inherited:
            raise self._gone()
        while True:
            # In this order: the last items are there before it is over.
            is_over = self.is_over
            try:
                item = self._items.popleft()
                break
            except IndexError:
                pass
            if not is_over:
                self.evaluate(self._arrival(), "next")
                continue
            item = self.take_unasked()
            if item is _END:
                raise StopIteration
            return item
        if self._is_full and len(self._items) <= self._low:
            self._make_room()
        if type(item) is not _Failure:
            return item
        try:
            self.tell(item.error)
        finally:
            del item  # It may lead to this frame: the caller may have run the loop.

    def send(self, value: Any) -> Any:
        raise RuntimeError(
            "nothing can be sent to an async generator whose items are made ahead: use prefetch=0"
        )

    def throw(self, error: BaseException | type[BaseException]) -> Any:
        raise RuntimeError(
            "nothing can be thrown into an async generator whose items are made ahead: use prefetch=0"
        )

    def discard(self) -> None:
        # One by one: other threads may take some meanwhile.
        while self._items:
            with contextlib.suppress(IndexError):
                item = self._items.popleft()
                if type(item) is _Failure:
                    self.report(item.error)

    def _make_room(self) -> None:
        self._is_full = False
        assert self.event_loop is not None
        # A loop that has been closed makes no more items.
        with contextlib.suppress(RuntimeError):
            self.event_loop.call_soon_threadsafe(self.wake)

    # The loop's thread.

    async def _arrival(self) -> None:
        """Waits until there is an item, or no further one."""
        try:
            while not (self._items or self.is_over):
                self.wake()  # A signal may have come between who made room and the wake-up.
                self._is_awaited = True
                self._arrived.clear()
                await self._arrived.wait()
        except asyncio.CancelledError:
            await self.cancel()
            raise

    async def make_items(self) -> None:
        while self.goes_on:
            cancelled: asyncio.CancelledError | None = None
            try:
                await self._pause()
            except asyncio.CancelledError as error:
                cancelled = error
            if self.is_closing:
                del cancelled  # It leads to this frame.
                break
            if cancelled is None:
                await self._make_some()
            else:
                item, failure = await self.cancel_between(cancelled)
                self._deliver(item if failure is None else _Failure(failure))
                del cancelled, failure  # They lead to this frame.

    async def _pause(self) -> None:
        """Lets the rest of the loop have its turn, and rests until fewer items are waiting than may."""
        await asyncio.sleep(0)
        while len(self._items) >= self._prefetch and not self.is_closing:
            self._is_full = True
            # Only now: whoever has made room meanwhile may not have seen that anybody wants it.
            if len(self._items) >= self._prefetch:
                await self.rest()
        self._is_full = False

    async def _make_some(self) -> None:
        """Makes items until there are enough, or the rest of the loop is to have its turn."""
        assert self.task is not None
        make = self._iterator.__anext__
        items, enough, deliver = self._items, self._prefetch, self._deliver
        is_cancelled, now = self.task.cancelling, time.monotonic
        ends = now() + _TURN
        try:
            while True:
                deliver(await make())
                if len(items) >= enough or now() >= ends or self.is_closing or is_cancelled():
                    break
        except BaseException as error:
            item, failure = self.failed(error)
            deliver(item if failure is None else _Failure(failure))
            del failure  # It leads to this frame.

    def _deliver(self, item: Any) -> None:
        if self.is_closing:
            self.keep((None, item.error if type(item) is _Failure else None))
        elif item is not _END:
            self._items.append(item)
            if self._is_awaited:
                self._is_awaited = False
                self._arrived.set()

    def finished(self) -> None:
        super().finished()
        self._arrived.set()


class _Failure:
    """In the place of an item that could not be made."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error
