"""What goes on on a loop, in words: every task, where it came from, where it is, who waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from . import _stacks
from ._single_task import SingleTask

if TYPE_CHECKING:
    from ._native import FutureCore
    from ._session import Session

__all__ = ["describe_calls_not_begun", "describe_loop", "describe_task", "describe_tasks"]


def describe_loop(session: Session) -> str:
    """Everything: the thread, the tasks, the calls that haven't begun."""
    assert session.loop is not None and session.portal is not None
    tasks = describe_tasks(session)
    calls = describe_calls_not_begun(session)
    summary = f"{session.thread.name}: {_count(len(tasks), 'task')}, {_count(len(calls), 'call')} not begun"
    for thread, subject in session.portal.callers():
        if subject is session:
            summary += f"\n  being closed by {_stacks.caller(thread)}"
    if session.is_idle:
        summary += "\n  its thread has nothing to run"
    else:
        summary += f"\n  its thread runs:\n{_stacks.describe_thread(session.runner)}"
    return "\n\n".join([summary, *tasks, *calls])


def describe_tasks(session: Session, tasks: Iterable[asyncio.Task[Any]] | None = None) -> list[str]:
    """Each of these tasks, or each unfinished one of the loop, the oldest first; those of unknown age last."""
    assert session.loop is not None and session.portal is not None
    futures = {future._task: future for future in session.portal.unfinished()}
    if tasks is None:
        tasks = [task for task in asyncio.all_tasks(session.loop) if task.get_name() != session.WIND_DOWN]

    def by_age(task: asyncio.Task[Any]) -> tuple[float, str]:
        future = futures.get(task)
        return (-(future._age or 0.0) if future is not None else 0.0, task.get_name())

    return [describe_task(session, task, futures.get(task)) for task in sorted(tasks, key=by_age)]


def describe_calls_not_begun(session: Session) -> list[str]:
    """Each call that was accepted and has no task yet."""
    assert session.portal is not None
    calls = [future for future in session.portal.unfinished() if future._task is None and not future.done()]
    return ["\n".join([f"call not begun, {_age(future)}", *_origin(session, future)]) for future in calls]


def describe_task(session: Session, task: asyncio.Task[Any], future: FutureCore[Any] | None = None) -> str:
    """A task's name, state, age, origin and waiters, and the stack of coroutines it is suspended in.

    What it is made of is the user's and may raise when it is looked at. That must not keep anybody from going on.
    """
    try:
        return _describe_task(session, task, future)
    except Exception as error:
        return f"task {object.__repr__(task)}, which can't be described: {type(error).__name__}"


def _describe_task(session: Session, task: asyncio.Task[Any], future: FutureCore[Any] | None) -> str:
    assert session.loop is not None
    coroutine = _stacks.coroutine_of(task)
    name = getattr(coroutine, "__qualname__", None) or type(coroutine).__name__
    resting = SingleTask.resting(task)
    facts = [f"waiting for {resting.next_call}" if resting else _stacks.state_of(task, session.loop)]
    facts.append("made by a coroutine" if future is None else _age(future))
    lines = [f"task {task.get_name()}, {name}: {', '.join(facts)}"]
    lines += _stacks.creation_of(task) if future is None else _origin(session, future)
    waiting = [other.get_name() for other in _stacks.awaiting_tasks(task)]
    lines += [f"  waited for by task {other}" for other in waiting if other != session.WIND_DOWN]
    if resting:
        stack = _stacks.stack_of_generator(resting.generator)
    else:
        stack = _stacks.stack_of(task, session.loop, session.runner)
    return "\n".join([*lines, *([stack] if stack else [])])


def _callers(session: Session, future: FutureCore[Any]) -> Iterable[int]:
    assert session.portal is not None
    threads = dict.fromkeys(future._waiting())
    for thread, subject in session.portal.callers():
        if future in subject.unfinished:
            threads[thread] = None
    return threads


def _origin(session: Session, future: FutureCore[Any]) -> list[str]:
    """Where a call came from, and which threads wait for it."""
    submitted = [] if future._origin is None else [f"  submitted at {future._origin}"]
    return submitted + [f"  waited for by {_stacks.caller(thread)}" for thread in _callers(session, future)]


def _age(future: FutureCore[Any]) -> str:
    age = future._age
    return "of unknown age" if age is None else f"{age:.2f} s old"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
