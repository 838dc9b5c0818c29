"""What the watchdog says, and how it looks at a loop that isn't the native one."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from typing import TYPE_CHECKING, Any

from . import _dump, _stacks
from ._native import FutureCore

if TYPE_CHECKING:
    from ._session import Session

__all__ = ["Look", "report", "tell_of_blocked_loop"]

logger = logging.getLogger("asyncio_thread_loop")


def report(session: Session, seconds: float) -> None:
    """A callback has held the loop for so long and still does. Called on the watchdog's thread, which isn't Python's.

    Whoever asked there for the current thread, as logging does, would leave an entry of a thread that never ends. And
    a handler may do anything, close the loop included, which waits for the watchdog. So another thread reports.
    """
    name = f"{session.thread.name} watchdog"
    threading.Thread(target=_report, args=(session, seconds), name=name, daemon=True).start()


def _report(session: Session, seconds: float) -> None:
    loop = session.loop
    if loop is None or session.portal is None:
        return
    task = asyncio.current_task(loop)
    if task is None:
        what = f"a callback:\n{_stacks.describe_thread(session.runner)}"
    else:
        futures = [future for future in session.portal.unfinished() if future._task is task]
        what = _dump.describe_task(session, task, futures[0] if futures else None)
    logger.warning("%s has been held up for %.2f s, and still is, by %s", session.thread.name, seconds, what)


class Look:
    """What the watchdog sees of a loop that doesn't count its callbacks. Called on the watchdog's thread.

    The loop's thread is looked at, and while it does something the loop is asked for an answer. One and the same
    callback runs as long as there is none and the thread is inside the same function.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        self._questions = 0
        self._answered = True

    def limit(self) -> float:
        """Seconds that a callback may take. A loop that doesn't know is not looked at."""
        return float(getattr(self._loop, "slow_callback_duration", float("inf")))

    def __call__(self) -> int | None:
        """A number for the callback that runs, None if none does."""
        if _stacks.is_idle(self._thread):
            return None
        if self._answered:
            self._answered = False
            self._questions += 1
            try:
                self._loop.call_soon_threadsafe(self._answer)
            except RuntimeError:
                return None  # closed
        return hash((self._questions, self._function())) & (2**63 - 1)

    def _answer(self) -> None:
        self._answered = True

    def _function(self) -> int:
        """The function that the loop called."""
        frame = _stacks.frame_of(self._thread)
        called = frame
        while frame is not None and not _stacks.is_ours(frame, "_run_until_done"):
            if not _stacks.is_machinery(frame):
                called = frame
            frame = frame.f_back
        return id(called)


def tell_of_blocked_loop(future: FutureCore[Any]) -> bool:
    """Somebody has been waiting for this future for a while, on a thread with an event loop that can't go on meanwhile.

    Says so if the work itself waits for another thread: it may well be this one. Called on the waiting thread; returns
    whether there was something to say.
    """
    task = future._task
    if task is None or not _waits_for_another_thread(task):
        return False
    loop = task.get_loop()
    stack = _stacks.stack_of(task, loop, None)
    logger.warning(
        "%s runs an event loop and has blocked it, waiting for task %s, which in turn waits for another thread. If "
        "that is this one, neither will ever go on: `await asyncio.wrap_future(loop.submit(...))` there instead. The "
        "task:\n%s",
        _stacks.caller(threading.get_ident()),
        task.get_name(),
        stack,
    )
    return True


def _waits_for_another_thread(task: asyncio.Task[Any]) -> bool:
    """Whether it waits for a `concurrent.futures.Future` that nobody works on yet, or that this thread works on."""
    seen: set[int] = set()
    awaited: list[Any] = [task]
    while awaited:
        at = awaited.pop()
        if at is None or id(at) in seen:
            continue
        seen.add(id(at))
        awaited.append(getattr(at, "_fut_waiter", None))
        awaited += getattr(at, "_children", ())  # those of a `gather`
        for callback, _ in getattr(at, "_callbacks", None) or ():
            for cell in getattr(callback, "__closure__", None) or ():
                source = cell.cell_contents
                if isinstance(source, FutureCore):
                    if source._runs_here and not source.done():
                        return True
                elif isinstance(source, concurrent.futures.Future) and not (
                    source.running() or source.done()
                ):
                    return True
    return False
