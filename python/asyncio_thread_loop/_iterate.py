"""Async iterators as iterators: one task on the loop makes the items, whoever calls `next` takes them."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import operator
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from ._coroutines import close_unstarted
from ._errors import LoopClosedError
from ._native import boundary
from ._single_task import Outcome, SingleTask, attempt, name_of, reraise

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
        return self._converted(self._source.throw(error))


#: There is no further item.
_END: Final = object()


class _Iteration(SingleTask):
    """An async iterator in its task, and how it ends."""

    def __init__(self, loop: AsyncioThreadLoop, async_iterable: AsyncIterable[Any]) -> None:
        super().__init__(loop, f"iteration of {name_of(async_iterable)}")
        self._async_iterable = async_iterable
        # The rest is for the loop's thread alone.
        self._iterator: Any = None
        self._has_ended = False
        self._is_cancelled_to_end = False
        #: Whether somebody waits for the end, and can be told how it went.
        self._end_is_awaited = False
        #: The error that nobody has been told of.
        self._untold: BaseException | None = None

    # The threads that take items.

    def close(self) -> None:
        if self.has_nothing_to_say or self.is_inherited:
            return
        try:
            self.evaluate(self._close())
        except LoopClosedError:
            self.join()

    def abandon(self) -> None:
        """Ends it without waiting: from any thread, in the middle of anything."""
        if self.event_loop is None or self.has_nothing_to_say or self.is_inherited:
            return
        # A loop that has been closed has ended it.
        with contextlib.suppress(RuntimeError):
            self.event_loop.call_soon_threadsafe(self._abandon)

    @property
    def has_nothing_to_say(self) -> bool:
        return self.is_over and self._untold is None

    def tell(self) -> None:
        """Raises the error that nobody has been told of, if there is one."""
        error, self._untold = self._untold, None
        if error is not None:
            reraise(error)

    # The loop's thread.

    @property
    def goes_on(self) -> bool:
        assert self.task is not None
        return not (self._has_ended or self.is_closing or self.task.cancelling())

    async def serve(self) -> None:
        assert self.task is not None
        try:
            self._iterator = aiter(self._async_iterable)
        except BaseException as error:
            self._untold, self._has_ended = error, True
        await self.make_items()
        if self._is_cancelled_to_end:
            self.task.uncancel()
        if not self._has_ended and self._is_ours_to_close():
            _, failure = await attempt(self._iterator.aclose())
            if failure is not None:
                self._untold = failure
        if self.is_closing and not self._end_is_awaited:
            self._report()

    async def make_items(self) -> None:
        raise NotImplementedError

    async def make(self, method: str, *args: Any) -> Outcome:
        """Makes an item."""
        try:
            return await getattr(self._iterator, method)(*args), None
        except StopAsyncIteration:
            self._has_ended = True
            return _END, None
        except BaseException as error:
            # A generator that has raised has ended, too. Other iterators may go on.
            self._has_ended = self._is_generator
            return None, error

    def keep_error(self, outcome: Outcome) -> None:
        """For whoever asks next. That the end was asked for is no error."""
        _, error = outcome
        if not (self.is_closing and isinstance(error, asyncio.CancelledError)):
            self._untold = error

    async def cancel_between(self, cancelled: asyncio.CancelledError) -> Outcome:
        """The task was cancelled between two items: a cancel scope or a timeout that the generator holds across its
        `yield` has ended, or the loop is being left. Either is the generator's business, where it is suspended.

        Returns what it made of that. Other iterators hold nothing: they end.
        """
        if self._is_generator:
            return await self.make("athrow", cancelled)
        self._has_ended = True
        return None, cancelled

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
        self._end_is_awaited = True
        self._end()
        try:
            await asyncio.wait({self.task})
        except asyncio.CancelledError:
            await self.cancel()
            raise
        self.tell()

    def _abandon(self) -> None:
        if self.is_over:
            self._report()
        else:
            self._end()

    def _end(self) -> None:
        if self.is_over or self.is_closing:
            return
        self.is_closing = True
        if not self.wake():
            # In the middle of an item.
            assert self.task is not None
            self._is_cancelled_to_end = self.task.cancel()

    def _report(self) -> None:
        """Tells of an error that nobody will ask for."""
        error, self._untold = self._untold, None
        if error is not None:
            self.report(error)


class _OnDemand(_Iteration):
    """Makes an item when one is asked for."""

    _is_in_use = False

    def next(self) -> Any:
        return self._take("__anext__")

    def send(self, value: Any) -> Any:
        return self._take("asend", value)

    def throw(self, error: BaseException | type[BaseException]) -> Any:
        return self._take("athrow", error)

    def _take(self, method: str, *args: Any) -> Any:
        if self._is_in_use:
            raise ValueError(f"the {self._what} is in use by another thread")
        if self.is_over:
            self.tell()
            raise StopIteration
        self._is_in_use = True
        try:
            item = self.evaluate(self._make(method, *args))
        finally:
            self._is_in_use = False
        if item is _END:
            raise StopIteration
        return item

    async def _make(self, method: str, *args: Any) -> Any:
        if not self.is_over:
            return await self.ask((method, args))
        self.tell()
        return _END

    async def make_items(self) -> None:
        unasked: Outcome | None = None
        while self.goes_on:
            cancelled: asyncio.CancelledError | None = None
            try:
                request = await self.next_request()
            except asyncio.CancelledError as error:
                cancelled = error
            if cancelled is not None:
                unasked = await self.cancel_between(cancelled)
                cancelled = None
            elif request is not None:
                method, args = request
                outcome, unasked = unasked or await self.make(method, *args), None
                if self.is_closing or not self.answer(outcome):
                    self.keep_error(outcome)
                del outcome
        if unasked is not None:
            self.keep_error(unasked)

    def finished(self) -> None:
        self.answer((_END, None))


class _Ahead(_Iteration):
    """Makes items ahead of those who take them, so many at most."""

    def __init__(self, loop: AsyncioThreadLoop, async_iterable: AsyncIterable[Any], prefetch: int) -> None:
        super().__init__(loop, async_iterable)
        self._prefetch = prefetch
        self._items: deque[Any] = deque()
        #: Whether the task rests until there is room. It goes on when half of the items have been taken.
        self._is_full = False
        self._low = prefetch // 2
        # The rest is for the loop's thread alone.
        self._arrived = asyncio.Event()
        self._turn_ends = 0.0

    # The threads that take items.

    def next(self) -> Any:
        items = self._items
        while True:
            # In this order: the last items are there before it is over.
            is_over = self.is_over
            try:
                item = items.popleft()
                break
            except IndexError:
                if is_over:
                    self.tell()
                    raise StopIteration from None
                self.evaluate(self._arrival())
        if self._is_full and len(items) <= self._low:
            self._make_room()
        if type(item) is _Failure:
            reraise(item.error)
        return item

    def send(self, value: Any) -> Any:
        raise RuntimeError(
            "nothing can be sent to an async generator whose items are made ahead: use prefetch=0"
        )

    def throw(self, error: BaseException | type[BaseException]) -> Any:
        raise RuntimeError(
            "nothing can be thrown into an async generator whose items are made ahead: use prefetch=0"
        )

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
                self.wake()
                self._arrived.clear()
                await self._arrived.wait()
        except asyncio.CancelledError:
            await self.cancel()
            raise

    async def make_items(self) -> None:
        while self.goes_on:
            cancelled: asyncio.CancelledError | None = None
            if len(self._items) >= self._prefetch or time.monotonic() >= self._turn_ends:
                try:
                    await self._pause()
                except asyncio.CancelledError as error:
                    cancelled = error
            if self.is_closing:
                break
            if cancelled is None:
                outcome = await self.make("__anext__")
            else:
                outcome = await self.cancel_between(cancelled)
                cancelled = None
            self._deliver(outcome)
            del outcome

    async def _pause(self) -> None:
        """Lets the rest of the loop have its turn, and rests until fewer items are waiting than may."""
        await asyncio.sleep(0)
        while len(self._items) >= self._prefetch and not self.is_closing:
            self._is_full = True
            # Only now: whoever has made room meanwhile may not have seen that anybody wants it.
            if len(self._items) >= self._prefetch:
                await self.rest()
        self._is_full = False
        self._turn_ends = time.monotonic() + _TURN

    def _deliver(self, outcome: Outcome) -> None:
        item, failure = outcome
        if self.is_closing:
            self.keep_error(outcome)
            return
        if failure is not None:
            item = _Failure(failure)
        elif item is _END:
            return
        self._items.append(item)
        if not self._arrived.is_set():
            self._arrived.set()

    def finished(self) -> None:
        super().finished()
        self._arrived.set()


class _Failure:
    """In the place of an item that could not be made."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error
