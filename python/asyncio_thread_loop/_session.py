"""One life of a loop: the thread that runs it, from start to graceful exit.

The loop's thread does everything that concerns the loop: it makes it, runs it, winds it down and closes it. The
thread that ends the session only asks, waits and, when its patience is over, tells every caller that it gave up.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401  (see `_close_all`: its exit hook must be registered before ours)
import contextlib
import functools
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from . import _dump, _stacks, _watchdog
from ._event_loop import EventLoop
from ._native import Portal, Waiting, Watchdog
from ._single_task import SingleTask, attempt, reraise

if TYPE_CHECKING:
    from ._context_managers import Body, Held

__all__ = ["Session", "logger"]

logger = logging.getLogger("asyncio_thread_loop")

#: Seconds after which an exit without a time limit says who is in the way.
STUCK_WARNING_AFTER = 10.0

#: Turns of the loop that run what is due before the exit cancels it: a timer that fires, the future it sets, the task
#: that awaits the future, and the tasks that await that one in turn.
_DUE_TURNS = 8

#: Seconds that a cleanup gets, unless `exit_timeout` is shorter: after a timeout or Ctrl-C, and at the exit if it was
#: under way before.
GRACE = 1.0


class Session:
    """Runs a fresh loop in a thread of its own."""

    #: Name of the tasks that wind the loop down, which are never in their own way.
    WIND_DOWN = "asyncio_thread_loop: wind down"

    #: Whoever waits for the exit waits for no call in particular.
    unfinished = ()

    def __init__(
        self,
        *,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None,
        name: str,
        debug: bool | None,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        exit_timeout: float | None,
        watchdog: bool,
        caller_runs: bool,
        on_end: Callable[[Session], None],
    ) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.portal: Portal | None = None
        # A daemon, so that a coroutine which never ends can't keep the process from ending: the graceful exit comes
        # from `_close_all`.
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._loop_factory = loop_factory or EventLoop
        self._debug = debug
        self._initializer = initializer
        self._initargs = initargs
        self._on_end = on_end
        self._started = threading.Event()
        #: Set when the exit is over. Not the thread tells that: before CPython 3.13 a `join` that a signal handler
        #: interrupts marks it as dead while it runs.
        self._over = threading.Event()
        self._failure: BaseException | None = None
        #: Nobody waits for the start any more.
        self._unwanted = False
        #: Done when the exit is asked for.
        self._leave: asyncio.Future[None] | None = None
        #: Set when work that was submitted is to be cancelled rather than waited for.
        self._cancel: asyncio.Event | None = None
        self.exit_timeout = exit_timeout
        #: Tasks that were given up and haven't ended.
        self._left_behind: set[asyncio.Task[Any]] = set()
        #: In a child that a coroutine forked: the task that did.
        self._forked_by: asyncio.Task[Any] | None = None
        #: Contexts that were entered and are left with the loop. For its thread alone.
        self.contexts: list[Held] = []
        #: What the `with` block raised, for them to see.
        self.body: Body = (None, None, None)
        #: What leaving them raised, and whether anybody waits to be told.
        self._exit_failure: BaseException | None = None
        self._exit_is_awaited = False
        self._is_watched = watchdog
        self._caller_runs = caller_runs
        self._watchdog: Watchdog | None = None

    # The thread that starts and ends the session.

    def start(self) -> None:
        """Returns when the loop runs; raises what kept it from running, with nothing left behind."""
        _sessions.add(self)
        try:
            self.thread.start()
            self._started.wait()
        except BaseException:
            if self.thread.ident is None:
                _sessions.discard(self)  # No thread could be started.
            # Otherwise it was Ctrl-C, and the thread winds down by itself as soon as it has started.
            self._unwanted = True
            self.ask_to_leave(cancel=True)
            raise
        if self._failure is not None:
            self.thread.join()
            failure, self._failure = self._failure, None
            try:
                raise failure
            finally:
                del failure

    @property
    def is_stale(self) -> bool:
        """Whether the loop belongs to the process that forked this one."""
        return self.portal is not None and self.portal.is_stale

    @property
    def runs_here(self) -> bool:
        """Whether the calling thread is the one that runs the loop; in a forked child, whether it was."""
        if self.portal is None:
            return self.thread is threading.current_thread()
        return self.portal.is_runner

    @property
    def runner(self) -> int | None:
        """Number of the thread that runs the loop right now: its own, unless a caller does."""
        return self.thread.ident if self.portal is None else self.portal.runner

    def ask_to_leave(self, *, cancel: bool) -> None:
        """Refuses further work and begins the exit. May be called again, with `cancel` to hurry it."""
        portal, loop = self.portal, self.loop
        if portal is None or loop is None:
            return
        portal.close()
        # A loop that has been closed has left.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self._begin_to_leave, cancel)

    def leave(self, *, cancel: bool, timeout: float | None) -> None:
        """Ends it, and raises what leaving the contexts raised."""
        self._exit_is_awaited = True
        try:
            self.end(cancel=cancel, timeout=timeout)
        finally:
            self._exit_is_awaited = False
        failure, self._exit_failure = self._exit_failure, None
        if failure is not None:
            reraise(failure)

    def end(self, *, cancel: bool, timeout: float | None) -> None:
        """Asks and waits for the exit. After `timeout` seconds it gives up: every caller gets a `LoopClosedError`.

        Raises `DeadlockError`, before it asks, on a thread whose own loop this one waits for.
        """
        with Waiting(self.portal, self, timeout is not None):
            self.ask_to_leave(cancel=cancel)
            self._wait(timeout)

    def done(self) -> bool:
        """Whether the exit is over."""
        return self._over.is_set()

    def _wait(self, timeout: float | None) -> None:
        if timeout is None:
            if not self._over.wait(STUCK_WARNING_AFTER):
                logger.warning(
                    "the exit of %s has been waiting for %g s and goes on waiting for:\n%s",
                    self.thread.name,
                    STUCK_WARNING_AFTER,
                    self.describe_stuck(),
                )
                self._over.wait()
        elif not self._over.wait(min(timeout, threading.TIMEOUT_MAX)):
            self._give_up(timeout)
            return
        self.thread.join()

    def _give_up(self, timeout: float) -> None:
        timeout = round(timeout, 2)
        report = f"{self.thread.name} didn't end within {timeout:g} s and was left behind. In its way:\n"
        try:
            report += self.describe_stuck()
        except Exception as error:  # of an object of the user's, which must not keep anybody waiting
            report += f"what can't be described: {type(error).__name__}"
        _sessions.discard(self)
        if self._watchdog is not None:
            self._watchdog.stop()
        # What it was still allowed to finish is now in nobody's interest.
        self.ask_to_leave(cancel=True)
        try:
            if self.portal is not None and self.loop is not None:
                # The portal lets go of them, asyncio keeps no task alive, and they have their cleanup still to do.
                self._left_behind = asyncio.all_tasks(self.loop)
                self.portal.give_up(
                    f"{self.thread.name} gave up on this work when it didn't end within {timeout:g} s"
                )
        finally:
            self._on_end(self)
            warnings.warn(report, RuntimeWarning, stacklevel=_outside())

    def describe_stuck(self) -> str:
        """What is in the way of the exit."""
        lines = []
        if not self.is_idle:
            lines.append(f"its thread, which runs:\n{_stacks.describe_thread(self.runner)}")
        if self.loop is not None and self.portal is not None:
            lines += _dump.describe_tasks(self)
        return "\n".join(lines) or "threads of its default executor"

    @property
    def is_idle(self) -> bool:
        """Whether the loop has nothing to run, as opposed to being in a callback."""
        if isinstance(self.loop, EventLoop):
            return self.loop._rests
        return _stacks.is_idle(self.thread.ident)

    # The loop's thread.

    def _run(self) -> None:
        try:
            loop = self._make_loop()
        except BaseException as failure:
            self._fail(failure)
            return
        try:
            asyncio.set_event_loop(loop)
            self._serve(loop)
        except BaseException as failure:
            if self._started.is_set():
                logger.exception("the loop of %s ended unexpectedly", self.thread.name)
            else:
                self._failure = failure
        finally:
            self._close(loop)

    def _make_loop(self) -> asyncio.AbstractEventLoop:
        loop = self._loop_factory()
        if not isinstance(loop, asyncio.AbstractEventLoop):
            raise TypeError(f"loop_factory returned {loop!r}, which is not an asyncio event loop")
        if loop.is_closed() or loop.is_running():
            state = "closed" if loop.is_closed() else "running already"
            raise RuntimeError(f"loop_factory returned an event loop that is {state}: {loop!r}")
        try:
            if self._debug is not None:
                loop.set_debug(self._debug)
            if self._caller_runs:
                if not isinstance(loop, EventLoop):
                    raise TypeError(f"caller_runs=True needs an EventLoop, loop_factory returned {loop!r}")
                loop._share()
            return loop
        except BaseException:
            loop.close()
            raise

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._leave = loop.create_future()
        self._cancel = asyncio.Event()
        self.portal = Portal(loop)
        if self._is_watched:
            self._watch(loop)
        if self._initializer is not None:
            loop.call_soon(self._initialize, self._initializer)
        else:
            self._has_started()
        self._run_until_done(loop, self._leave)
        wind_down = loop.create_task(self._wind_down())
        wind_down.set_name(self.WIND_DOWN)
        self._run_until_done(loop, wind_down)
        wind_down.result()

    def _run_until_done(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]) -> None:
        """Runs the loop until the future is done, whatever user code throws at it.

        `SystemExit` and `KeyboardInterrupt` break out of a loop's run after they have been stored in the task that
        raised them, where whoever waits for it finds them; a stray `loop.stop()` ends the run, too. Neither ends this
        loop.
        """
        future.add_done_callback(lambda _: loop.stop())
        while not future.done():
            raised: BaseException | None = None
            try:
                loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                logger.debug("%r was raised in a coroutine; the loop goes on", error)
                raised = error
            except BaseException:
                # uvloop's run can't end on a thread that has become a child's main thread.
                if not self.is_stale:
                    raise
            if self.is_stale:
                self.end_child(raised)

    def end_child(self, raised: BaseException | None) -> NoReturn:
        """In a child that a step has forked, which may have raised this: ends it."""
        _end_child(raised or _raised_by(self._forked_by))

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self.portal is not None
        look = _watchdog.Look(loop)
        try:
            self._watchdog = Watchdog(loop, look.limit, look, functools.partial(_watchdog.report, self))
        except RuntimeError:
            logger.warning("the loop of %s runs without a watchdog", self.thread.name, exc_info=True)
        else:
            self.portal._watched = True

    def _initialize(self, initializer: Callable[..., object]) -> None:
        try:
            initializer(*self._initargs)
        except BaseException as failure:
            assert self.portal is not None
            self.portal.close()
            self._failure = failure
            self._begin_to_leave(cancel=True)
        else:
            self._has_started()

    def _has_started(self) -> None:
        self._started.set()
        if self._unwanted:
            self._begin_to_leave(cancel=True)

    def _fail(self, failure: BaseException) -> None:
        self._failure = failure
        self._ended()

    def _begin_to_leave(self, cancel: bool) -> None:
        assert self._leave is not None and self._cancel is not None
        if cancel:
            self._cancel.set()
        if not self._leave.done():
            self._leave.set_result(None)

    async def _wind_down(self) -> None:
        assert self.loop is not None and self._cancel is not None
        if not self._cancel.is_set():
            await self._submitted_work_ends(self._cancel)
        for _ in range(_DUE_TURNS):
            await asyncio.sleep(0)
        if self.contexts:
            # They go on as if all that was submitted had been inside them. What is left after that may be their own.
            await self._end(self.submitted_tasks)
            await self._leave_contexts()
        await self._end(lambda: asyncio.all_tasks())
        await self.loop.shutdown_asyncgens()
        try:
            await self.loop.shutdown_default_executor()
        except RuntimeError:
            # CPython 3.12.0 and 3.12.1 start no thread when the interpreter exits, and this needs one. The executor's
            # own exit hook joins its threads.
            logger.debug(
                "the default executor of %s is left to the interpreter", self.thread.name, exc_info=True
            )

    async def _end(self, tasks_left: Callable[[], set[asyncio.Task[Any]]]) -> None:
        """Cancels tasks and waits for their cleanup."""
        this = asyncio.current_task()
        # What was cancelled before may be cleaning up, which a second cancellation would cut short. Or it swallowed the
        # first one and needs a second: it gets that when its grace is over.
        spared = {task for task in tasks_left() if task.cancelling() or SingleTask.ends(task)}
        asked = set(spared)
        grace = GRACE if self.exit_timeout is None else min(GRACE, self.exit_timeout / 2)
        # Cleanup may start tasks and await them: those get their turn to be cancelled when it has ended.
        while tasks := tasks_left() - {this}:
            for task in tasks - asked:
                task.cancel()
            asked |= tasks
            await asyncio.wait(tasks, timeout=grace if spared else None)
            asked -= spared
            spared.clear()

    def submitted_tasks(self) -> set[asyncio.Task[Any]]:
        """The unfinished tasks of calls that were submitted, but for those that hold contexts."""
        assert self.portal is not None
        tasks = {future._task for future in self.portal.unfinished()} - {held.task for held in self.contexts}
        return {task for task in tasks if task is not None and not task.done()}

    async def _leave_contexts(self) -> None:
        """The last one first. Each sees what the `with` block raised, or what a context inside it did."""
        body = self.body
        while self.contexts:
            held = self.contexts.pop()
            _, failure = await attempt(held.leave, *body)
            if failure is not None:
                _chain(failure, body[1])
                self._exit_failure = failure
                body = (type(failure), failure, failure.__traceback__)

    async def _submitted_work_ends(self, hurry: asyncio.Event) -> None:
        assert self.portal is not None
        hurried = asyncio.create_task(hurry.wait(), name=self.WIND_DOWN)
        while not hurried.done():
            tasks = [task for task in self.submitted_tasks() if not SingleTask.serves(task)]
            if not tasks:
                break
            everything = asyncio.create_task(asyncio.wait(tasks), name=self.WIND_DOWN)
            await asyncio.wait({everything, hurried}, return_when=asyncio.FIRST_COMPLETED)
            everything.cancel()
        hurried.cancel()

    def _close(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            if self._watchdog is not None:
                self._watchdog.stop()
            if self.portal is not None:
                self.portal.close()
            asyncio.set_event_loop(None)
            loop.close()
        except BaseException:
            logger.exception("the loop of %s could not be closed", self.thread.name)
        finally:
            if self.portal is not None:
                self.portal.give_up(f"{self.thread.name} has been closed")
            self._ended()

    def _ended(self) -> None:
        if self._exit_failure is not None and not self._exit_is_awaited:
            failure, self._exit_failure = self._exit_failure, None
            logger.error("a context of %s failed when it was left", self.thread.name, exc_info=failure)
        _sessions.discard(self)
        self._left_behind.clear()
        self._on_end(self)
        self._started.set()
        self._over.set()


def _chain(error: BaseException, earlier: BaseException | None) -> None:
    """Has an error show the earlier one that was being handled when it was raised."""
    if earlier is None:
        return
    known = {id(each) for each in _contexts_of(earlier)}
    for at in _contexts_of(error):
        if id(at) in known:
            return
        if at.__context__ is None or id(at.__context__) in known:
            at.__context__ = earlier


def _contexts_of(error: BaseException) -> list[BaseException]:
    """An error, the one in whose handling it was raised, and so on."""
    found: dict[int, BaseException] = {}
    at: BaseException | None = error
    while at is not None and id(at) not in found:
        found[id(at)] = at
        at = at.__context__
    return list(found.values())


def _end_child(raised: BaseException | None) -> NoReturn:
    """A coroutine has forked, and this is the child, whose only thread this is. What else the loop had to do is the
    parent's: the child ends, with the exit code that `SystemExit` carries.
    """
    code = raised.code if isinstance(raised, SystemExit) else None
    if not isinstance(code, (int, type(None))):
        print(code, file=sys.stderr)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit((code or 0) & 0xFF)


def _raised_by(task: asyncio.Task[Any] | None) -> BaseException | None:
    """What ended a task, if it has ended: uvloop raises an error of its own in the place of `SystemExit`."""
    return task.exception() if task is not None and task.done() and not task.cancelled() else None


def _outside() -> int:
    """The `stacklevel` of the innermost caller outside this package."""
    level = 1
    frame = sys._getframe(1)
    package = __file__.rpartition("/")[0]
    while frame.f_back is not None and frame.f_code.co_filename.startswith(package):
        frame = frame.f_back
        level += 1
    return level


#: The sessions whose threads run. Strong references: what runs in the background isn't collected.
_sessions: set[Session] = set()


def _close_all() -> None:
    """Winds down every loop that is still open when the interpreter exits.

    Runs before Python joins threads, and before the exit hook of `concurrent.futures.thread`, which was registered
    earlier: cleanup may still use executors.
    """
    open_sessions = [session for session in _sessions if not session.is_stale]
    for session in open_sessions:
        session.ask_to_leave(cancel=True)
    began = time.monotonic()
    for session in open_sessions:
        while not session.done():
            timeout = session.exit_timeout
            left = None if timeout is None else max(0.0, began + timeout - time.monotonic())
            try:
                session.end(cancel=True, timeout=left)
            except SystemExit:
                # A signal handler asks for what is going on already.
                continue
            except Exception:
                # With warnings as errors, giving up is one. The other loops still have to be closed.
                logger.exception("%s wasn't closed in time", session.thread.name)
            break


#: The parent's tasks in a forked child. One that nothing held would be collected, and its `finally` blocks run there.
_inherited: list[set[asyncio.Task[Any]]] = []


def _in_forked_child() -> None:
    for session in _sessions:
        if session.loop is not None:
            _inherited.append(asyncio.all_tasks(session.loop))
        if session.runs_here and session.loop is not None:
            session._forked_by = asyncio.current_task(session.loop)
            session.loop.stop()


os.register_at_fork(after_in_child=_in_forked_child)
threading._register_atexit(_close_all)  # type: ignore[attr-defined]
