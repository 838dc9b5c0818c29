"""`AsyncioThreadLoop`: synchronous code calls coroutines."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import itertools
import os
import threading
import time
import weakref
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
)
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Any, Literal, ParamSpec, Self, TypeVar, overload

from . import _iterate, _many
from ._context_managers import SyncContextManager, enter_async_context
from ._coroutines import call_in_coroutine, close_unstarted, is_async_callable
from ._dump import describe_loop
from ._errors import DeadlockError, ForkedError, LoopClosedError
from ._faces import Faces, SyncFunction, faces_of
from ._future import Future
from ._iterate import SyncGenerator, SyncIterator
from ._native import BridgeCore, FutureCore, boundary, check_timeout
from ._session import GRACE, Session
from ._start_task import TaskStatus

__all__ = ["AsyncioThreadLoop", "SimpleAsyncioThreadLoop"]

T = TypeVar("T")
S = TypeVar("S")
P = ParamSpec("P")

#: Seconds within which a loop that isn't blocked takes notice of a cancellation.
_RESPONSE = 0.1

_numbers = itertools.count()


class AsyncioThreadLoop(BridgeCore, concurrent.futures.Executor):  # type: ignore[misc]  # its `submit` takes plain functions
    """Runs an asyncio event loop in a thread of its own, for code that isn't asynchronous itself.

    Used like a `ThreadPoolExecutor`: any thread submits coroutines and gets futures back. Every step of every
    coroutine runs on the loop's thread, unless `caller_runs` says otherwise. Leaving the `with` block ends everything
    gracefully: what is due runs, every task is cancelled and its cleanup waited for, async generators and the default
    executor are shut down, the thread is joined. After that the same object can be entered again, on a fresh loop.

    - `exit_timeout`: seconds the exit may take; None for as long as it takes. When they are over, every future
      resolves with `LoopClosedError` and a `RuntimeWarning` names the tasks in the way, with their stacks.
    - `loop_factory`: makes the event loop; `EventLoop` if None. `asyncio.new_event_loop` and
      `uvloop.new_event_loop` work as well.
    - `name`: the thread's name.
    - `debug`: asyncio's debug mode, on or off; None leaves it to the environment (`PYTHONASYNCIODEBUG`).
    - `initializer`, `initargs`: called on the loop's thread before any work.
    - `propagate_context`: with `"in"` coroutines see the caller's context variables; with `"both"` what they change
      is carried back by `evaluate`, too.
    - `on_fork`: in a forked child the loop restarts at its first use (`"restart"`), or raises `ForkedError`
      (`"raise"`).
    - `watchdog`: logs a warning when a callback holds the loop for longer than `loop.loop.slow_callback_duration`
      seconds (0.1 at first), while it still does: the task, where it was submitted, and what it is doing. It runs in a
      thread of its own and costs an idle loop nothing.
    - `caller_runs`: a thread that waits in `evaluate` or `call`, without a timeout, runs the loop itself meanwhile if
      nobody else does. Such a call costs no thread switch, but steps of coroutines run on the threads of callers, too.
      Needs an `EventLoop`: with another one `start` raises `TypeError`.

    Raises `TypeError` or `ValueError` for arguments that make no sense.

    >>> async def greet(name):
    ...     await asyncio.sleep(0.01)
    ...     return f"hello {name}"
    >>> with AsyncioThreadLoop() as loop:
    ...     loop.evaluate(greet("world"))
    'hello world'
    """

    def __init__(
        self,
        exit_timeout: float | None = None,
        *,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
        name: str | None = None,
        debug: bool | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        propagate_context: Literal["in", "both"] = "in",
        on_fork: Literal["restart", "raise"] = "restart",
        watchdog: bool = True,
        caller_runs: bool = False,
    ) -> None:
        exit_timeout = check_timeout(exit_timeout)
        for argument, value in (("loop_factory", loop_factory), ("initializer", initializer)):
            if value is not None and not callable(value):
                raise TypeError(f"{argument} must be callable, got {value!r}")
        if initializer is not None and is_async_callable(initializer):
            raise TypeError(
                f"initializer must be a plain function, got the coroutine function {initializer!r}"
            )
        if propagate_context not in ("in", "both"):
            raise ValueError(f'propagate_context must be "in" or "both", got {propagate_context!r}')
        if on_fork not in ("restart", "raise"):
            raise ValueError(f'on_fork must be "restart" or "raise", got {on_fork!r}')
        self.exit_timeout = exit_timeout
        self._loop_factory = loop_factory
        self._name = f"AsyncioThreadLoop-{next(_numbers)}" if name is None else name
        self._debug = debug
        self._initializer = initializer
        self._initargs = tuple(initargs)
        self._carries_context_back = propagate_context == "both"
        self._on_fork = on_fork
        self._watchdog = bool(watchdog)
        self._caller_runs = bool(caller_runs)
        self._faces: Faces | None = None
        self._session: Session | None = None
        #: The session that is being started.
        self._starting: Session | None = None
        self._restarting = threading.RLock()
        self._life = threading.Lock()
        _instances.add(self)

    def __repr__(self) -> str:
        session = self._live_session()
        return f"<{type(self).__name__} {self._name} {'closed' if session is None else 'running'}>"

    # Life

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The running event loop; None before it starts and after it ends."""
        session = self._live_session()
        return None if session is None else session.loop

    @property
    def thread(self) -> threading.Thread | None:
        """The thread that runs the loop; None before it starts and after it ends."""
        session = self._live_session()
        return None if session is None else session.thread

    @boundary
    def start(self) -> Self:
        """Starts the loop and returns when it runs. For programs that can't use `with`.

        Raises `RuntimeError` if it runs already, and whatever `loop_factory` or `initializer` raised.

        >>> loop = AsyncioThreadLoop().start()
        >>> loop.evaluate(asyncio.sleep(0, "done"))
        'done'
        >>> loop.close()
        """
        # Not waiting for the lock: whoever has it starts this very loop, and may be its initializer.
        if not self._life.acquire(blocking=False):
            raise RuntimeError(f"{self._name} is being started already")
        try:
            if self._live_session() is not None:
                raise RuntimeError(f"{self!r} runs already")
            session = Session(
                loop_factory=self._loop_factory,
                name=self._name,
                debug=self._debug,
                initializer=self._initializer,
                initargs=self._initargs,
                exit_timeout=self.exit_timeout,
                watchdog=self._watchdog,
                caller_runs=self._caller_runs,
                on_end=_forgetting(self),
            )
            self._starting = session
            session.start()
            self._session = session
            self._portal = session.portal
        finally:
            self._starting = None
            self._life.release()
        return self

    @boundary
    def shutdown(
        self, wait: bool = True, *, cancel_futures: bool = True, timeout: float | None = None
    ) -> None:
        """Ends the loop gracefully. May be called twice and from any thread.

        New work is refused from here on. What is due runs; then every task on the loop is cancelled, or with
        `cancel_futures=False` submitted work is waited for first; cleanup is waited for; async generators and the
        default executor are shut down; the loop is closed and its thread joined.

        `timeout` is in seconds and bounds the exit, as `exit_timeout` does when it is None. When it passes, every
        future resolves with `LoopClosedError`, and a `RuntimeWarning` names the tasks in the way with their stacks.
        Without either the exit waits for ever, and logs a warning after 10 seconds. With `wait=False` it goes on in
        the background.

        Raises `DeadlockError` on the loop's own thread, unless `wait` is false.
        """
        timeout = check_timeout(timeout)
        session = self._session
        if session is None:
            return
        if session.is_stale:
            self._forget_parent()
            return
        if wait and session.runs_here:
            raise DeadlockError(
                "shutdown() would wait for the thread it was called on; use wait=False, or call it from another thread"
            )
        if wait:
            session.leave(cancel=cancel_futures, timeout=self.exit_timeout if timeout is None else timeout)
            self._forget(session)
        else:
            session.ask_to_leave(cancel=cancel_futures)

    def close(self) -> None:
        """The same as `shutdown()`."""
        self.shutdown()

    def __enter__(self) -> Self:
        return self.start()

    @boundary
    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> None:
        session = self._session
        if session is not None:
            session.body = (exc_type, exc_val, exc_tb)
        try:
            self.shutdown()
        finally:
            if session is not None:
                session.body = (None, None, None)

    def dump(self) -> str:
        """Describes what goes on on the loop, as text to be printed or logged.

        Every task: its name, its state, its age in seconds and where it was submitted (unless a coroutine made it), who
        waits for it (threads and other tasks), and the stack of coroutines it is suspended in; and every call that
        hasn't begun.

        May be called from any thread, also while the loop is blocked: then it shows what the loop's thread is doing.

        >>> async def job():
        ...     await asyncio.sleep(60)
        >>> with AsyncioThreadLoop(name="my loop") as loop:
        ...     future = loop.submit(job)
        ...     loop.evaluate(asyncio.sleep(0))
        ...     print(loop.dump())  # doctest: +ELLIPSIS
        my loop: 1 task, 0 calls not begun
          its thread has nothing to run
        <BLANKLINE>
        task Task-..., job: waiting for Future, 0... s old
          submitted at File ...
          File ..., in job
            ...
        """
        session = self._live_session()
        return f"{self._name}: closed" if session is None else describe_loop(session)

    def _live_session(self) -> Session | None:
        session = self._session
        return None if session is None or session.is_stale or session.portal is None else session

    def _forget(self, session: Session) -> None:
        """The session has ended, or was given up."""
        if self._session is session:
            self._session = None
            self._portal = None
            self._faces = None

    # Fork

    def _forget_parent(self) -> None:
        """In a forked child: lets go of the parent's loop without touching it."""
        if self._is_inherited:
            assert self._session is not None
            _inherited.append(self._session)
            self._session = None
            self._portal = None

    def _after_fork(self) -> None:
        """In a forked child, at the first call: a loop of its own, or an error."""
        if self._on_fork == "raise":
            raise ForkedError(f"{self._name} belongs to the process that forked this one")
        if self._starting is not None and self._starting.runs_here:
            raise LoopClosedError(f"{self._name} isn't running yet: this is its own start")
        with self._restarting:
            # What is stale stays in its place until there is something new: other threads that find it come here, too.
            if self._is_inherited:
                assert self._session is not None
                _inherited.append(self._session)
                self.start()

    @property
    def _is_inherited(self) -> bool:
        """Whether this is a forked child, and the loop its parent's."""
        return self._session is not None and self._session.is_stale

    # Calls. `submit` and `evaluate` are native.

    @boundary
    def evaluate_many(
        self,
        coros: Iterable[Awaitable[T]],
        timeout: float | None = None,
        *,
        limit: int | None = None,
        return_exceptions: bool = False,
        progress: bool | Callable[[int, int | None], object] | None = None,
    ) -> list[T]:
        """Runs many coroutines at once and returns their results, in order.

        `coros` may be lazy, even endless but for the work it does on demand: with `limit` at most so many of them are
        pulled and unfinished at any time. It is iterated on the calling thread. A collection without `limit` and
        `progress` is handed over in one go, as by `submit_many`.

        The first failure stops the pulling and cancels the rest; when their cleanup is done, or its grace of 1 second
        is over, the first error in input order is raised. With `return_exceptions=True` errors are results.
        `timeout` is in seconds, for all of them together; when it passes, the rest is cancelled likewise and
        `TimeoutError` is raised.

        `progress=True` draws a progress bar (`pip install asyncio-thread-loop[progress]`); a callable is called with
        the number done and the total, None if that isn't known, on the calling thread.

        Raises `DeadlockError` on the loop's own thread, and otherwise what `submit` does.

        >>> async def double(number):
        ...     await asyncio.sleep(0.001)
        ...     return 2 * number
        >>> with AsyncioThreadLoop() as loop:
        ...     loop.evaluate_many((double(number) for number in range(5)), limit=2)
        [0, 2, 4, 6, 8]
        """
        return _many.evaluate_many(self, coros, timeout, limit, return_exceptions, progress)

    @boundary
    def map(  # type: ignore[override]  # an executor's `map` takes plain functions
        self,
        async_fn: Callable[..., Coroutine[Any, Any, T]],
        /,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Runs `async_fn` on the items of the iterables at once, and iterates over the results in order.

        As `Executor.map` does, it submits everything before it returns, unless `buffersize` says how many calls may
        be submitted ahead of the results taken. `timeout` is in seconds from this call. An iteration that ends
        early, by an error, a timeout or `close()`, cancels the rest.

        >>> async def add(a, b):
        ...     return a + b
        >>> with AsyncioThreadLoop() as loop:
        ...     list(loop.map(add, [1, 2], [10, 20]))
        [11, 22]
        """
        return _many.map(self, async_fn, iterables, timeout, buffersize)

    @boundary
    def as_completed(
        self, coros: Iterable[Awaitable[T]], *, limit: int | None = None, timeout: float | None = None
    ) -> Iterator[Future[T]]:
        """Runs many coroutines at once and iterates over their futures as they end.

        With `limit` at most so many are pulled and unfinished. `timeout` is in seconds from this call. An iteration
        that ends early cancels the rest.

        >>> async def after(seconds):
        ...     await asyncio.sleep(seconds)
        ...     return seconds
        >>> with AsyncioThreadLoop() as loop:
        ...     [future.result() for future in loop.as_completed([after(0.05), after(0.01)])]
        [0.01, 0.05]
        """
        return _many.as_completed(self, coros, limit, timeout)

    @boundary
    def call(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Calls a plain function on the loop's thread, waits, and returns its result or raises its error.

        With `caller_runs` it is called on the thread that runs the loop, mostly the calling one. Meanwhile the loop
        does nothing else. Raises `TypeError` for a coroutine function, which belongs to `submit` or `evaluate`, and
        otherwise what `evaluate` does.

        >>> with AsyncioThreadLoop(name="my loop") as loop:
        ...     loop.call(lambda: threading.current_thread().name)
        'my loop'
        """
        if not callable(fn):
            raise TypeError(f"a callable was expected, got {fn!r}")
        if is_async_callable(fn):
            raise TypeError(f"{fn!r} is a coroutine function: use submit() or evaluate()")
        result: T = self.evaluate(call_in_coroutine(fn, args, kwargs))
        return result

    @boundary
    def start_task(
        self, async_fn: Callable[..., Coroutine[Any, Any, T]], /, *args: Any
    ) -> tuple[Future[T], Any]:
        """Starts `async_fn(*args, task_status=...)` and waits until it calls `task_status.started(value)`.

        Returns its future and the value. Raises what it raised if it failed before that, `RuntimeError` if it ended
        without calling `started`, `DeadlockError` on the loop's own thread, and otherwise what `submit` does.

        >>> async def serve(port, *, task_status):
        ...     task_status.started(f"listening on {port}")
        ...     await asyncio.sleep(60)
        >>> with AsyncioThreadLoop() as loop:
        ...     future, value = loop.start_task(serve, 8080)
        ...     value
        'listening on 8080'
        """
        self._refuse_own_thread("start_task")
        status: TaskStatus[Any] = TaskStatus()
        future = self.submit(async_fn, *args, task_status=status)
        return future, status.wait_for(future, self._portal)

    # Async iterators and context managers

    @overload
    def iterate(self, async_iterable: AsyncGenerator[T, S], *, prefetch: int = 0) -> SyncGenerator[T, S]: ...

    @overload
    def iterate(self, async_iterable: AsyncIterable[T], *, prefetch: int = 0) -> SyncIterator[T]: ...

    @boundary
    def iterate(self, async_iterable: AsyncIterable[T], *, prefetch: int = 0) -> SyncIterator[T]:
        """Iterates over an async iterator or generator from synchronous code.

        The async iterator runs in one task on the loop for the whole of its life, so that what it holds across a
        `yield` (cancel scopes, timeouts, task groups, context variables) works. Each `next()` waits for one item; with
        `prefetch` up to so many items are made ahead of those that were taken, which saves the two thread switches per
        item when they come fast, and keeps the source busy when they come slowly.

        What is returned can be closed, and is when it is dropped: after a `break`, an exception, or the end of a `with`
        block the `finally` blocks of an async generator run on the loop at once. (An object that is its own async
        iterator without being a generator, such as a stream, was open before and stays so.) For an async generator it
        also has `send` and `throw`.

        Raises `TypeError` for what isn't an async iterable, `ValueError` for a negative `prefetch`, `DeadlockError` on
        the loop's own thread, and otherwise what `submit` does.

        >>> async def squares(to):
        ...     for number in range(to):
        ...         await asyncio.sleep(0)
        ...         yield number * number
        >>> with AsyncioThreadLoop() as loop:
        ...     sum(loop.iterate(squares(5))), list(loop.iterate(squares(4), prefetch=10))
        (30, [0, 1, 4, 9])
        """
        return _iterate.iterate(self, async_iterable, prefetch)

    @boundary
    def wrap_async_context_manager(
        self, async_context_manager: AbstractAsyncContextManager[T, Any], /
    ) -> SyncContextManager[T]:
        """Makes a context manager of an async one.

        `__aenter__` and `__aexit__` run in one task on the loop, so that cancel scopes, timeouts and task groups work.
        What the body raises reaches `__aexit__`, which may suppress it. If a scope or timeout it holds ends while the
        body still runs, it is left at once, and what came of that is raised when the body ends; so it is when the loop
        is closed meanwhile. It can be entered again if the async one can, but only after it was left.

        Raises `TypeError` for what isn't an async context manager. Entering and leaving raise what `evaluate` does, and
        `RuntimeError` out of turn. In a forked child leaving does nothing: the parent will.

        >>> @contextlib.asynccontextmanager
        ... async def connect(host):
        ...     await asyncio.sleep(0)
        ...     yield f"connected to {host}"
        >>> with AsyncioThreadLoop() as loop:
        ...     with loop.wrap_async_context_manager(connect("example.org")) as connection:
        ...         connection
        'connected to example.org'
        """
        return SyncContextManager(self, async_context_manager)

    @boundary
    def enter_async_context(self, async_context_manager: AbstractAsyncContextManager[T, Any], /) -> T:
        """Enters an async context manager, which is left with the loop, and returns what it gives.

        For what a whole program uses: a client session, a connection pool. When the loop is left, submitted calls are
        ended first, then the contexts are left in the reverse order of entering, each in the task it was entered in;
        then come the tasks that are left. They see the exception that ends the `with` block of the loop, but can't
        suppress it. What they raise comes out of the block, or of `shutdown()`; where nobody waits for the exit it is
        logged.

        Raises `TypeError` for what isn't an async context manager, `DeadlockError` on the loop's own thread, and what
        `evaluate` does.

        >>> @contextlib.asynccontextmanager
        ... async def pool():
        ...     yield "a pool"
        ...     print("pool closed")
        >>> with AsyncioThreadLoop() as loop:
        ...     loop.enter_async_context(pool())
        'a pool'
        pool closed
        """
        return enter_async_context(self, async_context_manager)

    # Faces

    @overload
    def to_sync(self, obj: type[Any], /) -> type[Any]: ...

    @overload
    def to_sync(
        self, obj: Callable[P, AbstractAsyncContextManager[T, Any]], /
    ) -> SyncFunction[P, AbstractContextManager[T], Callable[P, AbstractAsyncContextManager[T, Any]]]: ...

    @overload
    def to_sync(
        self, obj: Callable[P, AsyncGenerator[T, S]], /
    ) -> SyncFunction[P, SyncGenerator[T, S], Callable[P, AsyncGenerator[T, S]]]: ...

    @overload
    def to_sync(
        self, obj: Callable[P, AsyncIterator[T]], /
    ) -> SyncFunction[P, SyncIterator[T], Callable[P, AsyncIterator[T]]]: ...

    @overload
    def to_sync(
        self, obj: Callable[P, Coroutine[Any, Any, T]], /
    ) -> SyncFunction[P, T, Callable[P, Coroutine[Any, Any, T]]]: ...

    @overload
    def to_sync(self, obj: object, /) -> Any: ...

    @boundary
    def to_sync(self, obj: Any, /) -> Any:
        """A synchronous face of an async function, a class or an instance, as if its authors had written one.

        A function's face takes the same arguments, runs it on the loop and returns what it returns. It can be used as
        a decorator. A class's face is a class with the same names: calling it makes an instance on the loop and
        returns a face of it. On the face of an instance

        - async methods, plain methods, properties and operators run on the loop's thread, all of them, and are waited
          for; attributes that are only stored are read at once;
        - `with` enters and leaves its asynchronous context, in one task; `for` goes through its asynchronous
          iteration; `result()` awaits it, if it can be awaited;
        - what comes back as an object with something asynchronous about it comes back as a face, async generators as
          generators (see `iterate`), asynchronous contexts as context managers, an asyncio future or task as a
          `Future`;
        - faces given as arguments are unwrapped, and a synchronous callback runs in a worker thread, with faces for
          its arguments: what it returns can be awaited there, if the original does. A parameter annotated as a
          callable that returns a plain value gets the callback as it is.

        The original is the `aio` of each face, each method included. Faces of subclasses are subclasses; one may derive
        from a face's class. The same class, function or instance has the same face as long as that is in use. Faces
        keep the loop alive.

        Raises `TypeError` for what has nothing asynchronous about it, `ValueError` for a face of another loop. What is
        done with a face raises what the original raises, and otherwise as `evaluate` does: `DeadlockError` on the
        loop's own thread, `LoopClosedError` when the loop has been closed, also for a face of the time before if it
        was entered afresh since, `ForkedError` in a forked child for what was made before.

        >>> class Client:
        ...     def __init__(self, greeting):
        ...         self.greeting = greeting
        ...     async def __aenter__(self):
        ...         return self
        ...     async def __aexit__(self, *exc_info):
        ...         print("closed")
        ...     async def greet(self, name):
        ...         return f"{self.greeting} {name}"
        ...     async def names(self):
        ...         yield "Ada"
        ...         yield "Grace"
        >>> with AsyncioThreadLoop() as loop:
        ...     SyncClient = loop.to_sync(Client)
        ...     with SyncClient("hello") as client:
        ...         [client.greet(name) for name in client.names()]
        ['hello Ada', 'hello Grace']
        closed
        """
        faces = faces_of(self)
        if self._live_session() is not None:
            # Faces keep the loop alive, so it mustn't keep them for longer than it runs.
            self._faces = faces
        return faces.to_sync(obj)

    @staticmethod
    def submit_in_new_loop(
        coro: Coroutine[Any, Any, Any], exit_timeout: float | None = None
    ) -> AsyncioThreadLoop:
        """Starts a new loop with this coroutine on it. The loop is the caller's to close."""
        try:
            loop = AsyncioThreadLoop(exit_timeout=exit_timeout).start()
        except BaseException:
            close_unstarted(coro)
            raise
        try:
            loop.submit(coro)
        except BaseException:
            loop.close()
            raise
        return loop

    def _refuse_own_thread(self, call: str) -> None:
        session = self._session
        if session is not None and session.runs_here:
            raise DeadlockError(
                f"{call}() was called on the loop's own thread and would wait for ever: `await` instead, or call from "
                "another thread (`await asyncio.to_thread(...)`)"
            )

    # Of `evaluate`, what is rare.

    def _evaluate_timed_out(self, future: FutureCore[Any], timeout: float) -> None:
        error = TimeoutError(f"not done within {float(timeout):g} s")
        trouble = self._cancel_within_grace([future])
        if trouble is not None:
            error.add_note(trouble)
        elif not future.cancelled():
            error.__cause__ = future.exception()
        raise error

    def _evaluate_interrupted(self, future: FutureCore[Any], interrupt: BaseException) -> None:
        trouble = self._cancel_within_grace([future])
        if trouble is not None:
            interrupt.add_note(trouble)

    def _end_forked_child(self, raised: BaseException | None) -> None:
        """In a child that a step has forked while this thread ran the loop."""
        assert self._session is not None
        self._session.end_child(raised)

    def _cancel_within_grace(self, futures: list[FutureCore[Any]]) -> str | None:
        """Cancels work and gives its cleanup a little time. Returns what went wrong, if it did."""
        grace = GRACE if self.exit_timeout is None else min(GRACE, self.exit_timeout)
        unfinished = [future for future in futures if not future.done()]
        for future in unfinished:
            future._cancel_once()
        running = [future for future in unfinished if not future.done()]
        if not running:
            return None
        if not self._responds(min(grace, _RESPONSE)):
            return "the loop's thread is blocked, so the cancellation waits there"
        ends = time.monotonic() + grace
        if all(future._wait(ends - time.monotonic()) for future in running):
            return None
        return f"its cleanup didn't end within the grace of {grace:g} s and goes on on the loop"

    def _responds(self, within: float) -> bool:
        """Whether the loop takes a call within so many seconds, that is, isn't blocked."""
        session = self._session
        if session is None or session.loop is None:
            return False
        noticed: Future[None] = Future()
        try:
            session.loop.call_soon_threadsafe(noticed.set_result, None)
        except RuntimeError:
            return False
        return noticed._wait(within)

    def _adopt_context(self, context: contextvars.Context) -> None:
        """Carries what a coroutine did to its context back to the caller's."""
        missing = object()
        for variable, value in context.items():
            if variable.get(missing) is not value:
                variable.set(value)


class SimpleAsyncioThreadLoop(AsyncioThreadLoop):
    """A loop without options, under the name it had in the original package."""

    def __init__(self) -> None:
        super().__init__()


def _forgetting(loop: AsyncioThreadLoop) -> Callable[[Session], None]:
    """A session must not keep the object alive that it belongs to."""
    reference = weakref.ref(loop)

    def forget(session: Session) -> None:
        owner = reference()
        if owner is not None:
            owner._forget(session)

    return forget


_instances: weakref.WeakSet[AsyncioThreadLoop] = weakref.WeakSet()

#: The parent's sessions in a forked child: never run, never closed, never collected.
_inherited: list[Session] = []


def _in_forked_child() -> None:
    """Locks may have been held by threads that don't exist in the child."""
    for loop in list(_instances):
        loop._life = threading.Lock()
        loop._restarting = threading.RLock()
        loop._starting = None


os.register_at_fork(after_in_child=_in_forked_child)

for _class in (AsyncioThreadLoop, SimpleAsyncioThreadLoop):
    _class.__module__ = "asyncio_thread_loop"
