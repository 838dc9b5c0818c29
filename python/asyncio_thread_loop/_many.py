"""Many calls at once: `evaluate_many`, `map`, `as_completed`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import operator
import os
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Generator, Iterable, Iterator
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from ._coroutines import await_in_coroutine, close_unstarted
from ._errors import ForkedError
from ._future import Future
from ._native import BoundaryIterator, Waiting, check_timeout

if TYPE_CHECKING:
    from ._loop import AsyncioThreadLoop

__all__ = ["Deadline", "as_completed", "evaluate_many", "map"]

T = TypeVar("T")

#: Seconds after which the main thread looks for signals.
_NAP = 0.1


class Deadline:
    """So many seconds from now; None is never."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._at = None if seconds is None else time.monotonic() + seconds

    def left(self) -> float | None:
        if self._at is None:
            return None
        # Locks take no more than so much: a century or three, which is as good as for ever.
        return min(max(0.0, self._at - time.monotonic()), threading.TIMEOUT_MAX)

    def error(self) -> TimeoutError:
        return TimeoutError(f"not done within {self._seconds:g} s")


class _InFlight:
    """Coroutines pulled from a source and submitted, of which at most `limit` are unfinished."""

    def __init__(
        self,
        loop: AsyncioThreadLoop,
        coros: Iterable[Awaitable[Any]],
        limit: int | None,
        timeout: float | None,
    ) -> None:
        self._loop = loop
        self._limit = limit
        self.deadline = Deadline(timeout)
        self._ended: SimpleQueue[Future[Any]] = SimpleQueue()
        self.unfinished: set[Future[Any]] = set()
        self._process = os.getpid()
        self._source: Iterator[Awaitable[Any]] | None = iter(coros)
        # Of a list we know what is left of it; what an iterator would have made doesn't exist.
        self._source_is_given = isinstance(coros, Collection)

    def pull(self) -> list[Future[Any]]:
        """Submits as many as the limit allows, and returns their futures."""
        pulled = []
        while self._source is not None and (self._limit is None or len(self.unfinished) < self._limit):
            try:
                coro = next(self._source)
            except StopIteration:
                self._source = None
                break
            future = self._loop.submit(await_in_coroutine(coro))
            self.unfinished.add(future)
            future.add_done_callback(self._ended.put)
            pulled.append(future)
        return pulled

    def next_ended(self) -> Future[Any]:
        """Waits for the next one to end. Raises `TimeoutError` at the deadline."""
        self._loop._refuse_own_thread("waiting for many coroutines")
        if os.getpid() != self._process:
            raise ForkedError(
                "these calls belong to the process that forked this one, which alone will finish them"
            )
        try:
            future = self._ended.get_nowait()
        except Empty:
            future = self._wait()
        self.unfinished.discard(future)
        return future

    def _wait(self) -> Future[Any]:
        on_main_thread = threading.current_thread() is threading.main_thread()
        with Waiting(self._loop._portal, self, self.deadline.left() is not None):
            while True:
                left = self.deadline.left()
                if left == 0:
                    raise self.deadline.error()
                # A signal that arrives just before the wait doesn't end it, so the main thread looks now and then.
                nap = min(_NAP, left or _NAP) if on_main_thread else left
                with contextlib.suppress(Empty):
                    return self._ended.get(timeout=nap)

    def done(self) -> bool:
        """Whether one has ended that `next_ended` hasn't returned."""
        return not self._ended.empty()

    def abandon(self) -> str | None:
        """Stops pulling and cancels the rest, whose cleanup gets its grace. Says what kept that from ending."""
        self._stop_pulling()
        return self._loop._cancel_within_grace(list(self.unfinished))

    def cancel(self) -> None:
        """Stops pulling and cancels the rest, without waiting for it."""
        self._stop_pulling()
        for future in self.unfinished:
            future._cancel_once()

    def _stop_pulling(self) -> None:
        rest, self._source = self._source, None
        # Not what was submitted: its task may be about to take the first step.
        if rest is not None and self._source_is_given:
            close_unstarted(*rest)


def _check(
    loop: AsyncioThreadLoop,
    call: str,
    coros: Iterable[Awaitable[Any]],
    timeout: float | None,
    bound: tuple[str, int | None],
) -> float | None:
    """Refuses bad arguments before anything is submitted, and closes the coroutines that came with them.

    Returns the timeout as a float.
    """
    name, limit = bound
    try:
        loop._refuse_own_thread(call)
        timeout = check_timeout(timeout)
        if limit is not None and operator.index(limit) < 1:
            raise ValueError(f"{name} must be at least 1 or None, got {limit}")
    except BaseException:
        if isinstance(coros, Collection):
            close_unstarted(*coros)
        raise
    return timeout


def evaluate_many(
    loop: AsyncioThreadLoop,
    coros: Iterable[Awaitable[T]],
    timeout: float | None,
    limit: int | None,
    return_exceptions: bool,
    progress: bool | Callable[[int, int | None], object] | None,
) -> list[T]:
    timeout = _check(loop, "evaluate_many", coros, timeout, ("limit", limit))
    if limit is None and not progress and isinstance(coros, Collection):
        return _evaluate_together(loop, coros, timeout, return_exceptions)
    flight = _InFlight(loop, coros, limit, timeout)
    futures: list[Future[T]] = []
    failed = False
    try:
        with _Progress(progress, operator.length_hint(coros) or None) as told:
            futures += flight.pull()
            while flight.unfinished:
                failed = _failed(flight.next_ended()) and not return_exceptions
                if failed:
                    break
                told()
                futures += flight.pull()
    except BaseException as error:
        _note_trouble(error, flight.abandon())
        raise
    if failed:
        _raise_the_first(futures, flight.abandon)
    return _results(futures, return_exceptions)


class _Together:
    """Calls that are submitted in one go. Those who look for what a thread waits for see them so, too."""

    def __init__(self, loop: AsyncioThreadLoop) -> None:
        self._loop = loop
        self.futures: list[Future[Any]] = []
        #: Ends with all of them, or with the first failure if that is asked for. Its result is whether that was it.
        self.ended: Future[bool | None] = Future()

    def submit(self, coros: Collection[Awaitable[Any]], stops_at_failure: bool) -> None:
        self.ended = self._loop._submit_together(coros, stops_at_failure, self.futures)

    @property
    def unfinished(self) -> list[Future[Any]]:
        return [future for future in self.futures if not future.done()]

    def done(self) -> bool:
        return self.ended.done()

    def abandon(self) -> str | None:
        """Cancels the rest, whose cleanup gets its grace. Says what kept that from ending."""
        return self._loop._cancel_within_grace(list(self.futures))


def _evaluate_together(
    loop: AsyncioThreadLoop, coros: Collection[Awaitable[T]], timeout: float | None, return_exceptions: bool
) -> list[T]:
    """`evaluate_many` without anything to do on the way: one hand-over, one wait."""
    deadline = Deadline(timeout)
    together = _Together(loop)
    try:
        together.submit(coros, not return_exceptions)
        with Waiting(loop._portal, together, timeout is not None):
            try:
                failed = together.ended.result(deadline.left())
            except TimeoutError:
                raise deadline.error() from None
    except BaseException as error:
        _note_trouble(error, together.abandon())
        raise
    if failed:
        _raise_the_first(together.futures, together.abandon)
    return _results(together.futures, return_exceptions)


def _note_trouble(error: BaseException, trouble: str | None) -> None:
    if trouble is not None and isinstance(error, TimeoutError | KeyboardInterrupt):
        error.add_note(trouble)


def _raise_the_first(futures: list[Future[Any]], abandon: Callable[[], object]) -> None:
    """Abandons what hasn't ended after a failure, and raises the first in input order."""
    before = {future for future in futures if _failed(future)}
    abandon()
    # Others may have been failing already when the cancellation reached them.
    next(future for future in futures if future in before or _failed_uncancelled(future)).result()


def _results(futures: list[Future[T]], return_exceptions: bool) -> list[T]:
    if return_exceptions:
        return [_outcome(future) for future in futures]
    return [future.result() for future in futures]


def map(
    loop: AsyncioThreadLoop,
    async_fn: Callable[..., Awaitable[T]],
    iterables: tuple[Iterable[Any], ...],
    timeout: float | None,
    buffersize: int | None,
) -> Iterator[T]:
    timeout = _check(loop, "map", (), timeout, ("buffersize", buffersize))
    deadline = Deadline(timeout)
    calls = zip(*iterables, strict=False)
    waiting: deque[Future[T]] = deque()

    def submit_next() -> bool:
        for args in calls:
            waiting.append(loop.submit(async_fn, *args))
            return True
        return False

    try:
        while (buffersize is None or len(waiting) < buffersize) and submit_next():
            pass
    except BaseException:
        loop._cancel_within_grace(list(waiting))
        raise

    def results() -> Generator[Any, None, None]:
        try:
            yield
            while waiting:
                try:
                    result = waiting[0].result(deadline.left())
                except TimeoutError:
                    if waiting[0].done():
                        raise
                    raise deadline.error() from None
                waiting.popleft()
                if buffersize is not None:
                    submit_next()
                yield result
        finally:
            for future in waiting:
                future._cancel_once()

    return _begin(results())


def as_completed(
    loop: AsyncioThreadLoop, coros: Iterable[Awaitable[T]], limit: int | None, timeout: float | None
) -> Iterator[Future[T]]:
    timeout = _check(loop, "as_completed", coros, timeout, ("limit", limit))
    flight = _InFlight(loop, coros, limit, timeout)
    try:
        flight.pull()
    except BaseException:
        flight.abandon()
        raise

    def ended() -> Generator[Any, None, None]:
        try:
            yield
            while flight.unfinished:
                future = flight.next_ended()
                flight.pull()
                yield future
        finally:
            flight.cancel()

    return _begin(ended())


def _begin(generator: Generator[Any, None, None]) -> Iterator[Any]:
    """Runs a generator up to its first `yield`: one that was never begun skips its `finally` when it is dropped."""
    next(generator)
    return BoundaryIterator(generator)


def _failed(future: Future[Any]) -> bool:
    """Whether it failed or was cancelled; its error isn't thereby asked for."""
    return future.cancelled() or future._failure is not None


#: `error.__context__`, also of a class that has its own idea of attributes.
_context_of: Callable[[BaseException], BaseException | None] = vars(BaseException)["__context__"].__get__


def _failed_uncancelled(future: Future[Any]) -> bool:
    """Whether it failed by itself, rather than in the cleanup that a cancellation began."""
    cause = error = future._failure
    while cause is not None and not isinstance(cause, asyncio.CancelledError):
        cause = _context_of(cause)
    return error is not None and cause is None


def _outcome(future: Future[Any]) -> Any:
    """The result or the error, whichever it was."""
    if future.cancelled():
        return concurrent.futures.CancelledError()
    # The error is not to be raised here: its traceback would lead to this future, which leads to the error.
    error = future.exception()
    return future.result() if error is None else error


class _Progress:
    """Tells of progress by a bar, by a callable, or not at all."""

    def __init__(
        self, progress: bool | Callable[[int, int | None], object] | None, total: int | None
    ) -> None:
        self._done = 0
        self._total = total
        self._callable = progress if callable(progress) else None
        self._bar: Any = None
        if progress is True:
            try:
                from tqdm.auto import tqdm
            except ImportError as error:
                raise ImportError(
                    "progress=True needs tqdm: pip install asyncio-thread-loop[progress]"
                ) from error
            self._bar = tqdm(total=total)

    def __enter__(self) -> Callable[[], None]:
        return self._one_more

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def _one_more(self) -> None:
        self._done += 1
        if self._callable is not None:
            self._callable(self._done, self._total)
        if self._bar is not None:
            self._bar.update()
