"""What tasks and threads are doing right now: looked at from any thread, and put into words."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import sys
import threading
import traceback
from collections.abc import Iterator
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType
from typing import Any

from ._native import awaited_by

__all__ = [
    "awaiting_tasks",
    "caller",
    "creation_of",
    "describe_circle",
    "describe_thread",
    "frame_of",
    "is_idle",
    "is_machinery",
    "is_ours",
    "stack_of",
    "stack_of_generator",
    "state_of",
    "thread_name",
]

#: What the attributes of things that are awaited begin with.
_PREFIXES: dict[type, str] = {CoroutineType: "cr", GeneratorType: "gi", AsyncGeneratorType: "ag"}

#: Files of the standard loop, whose frames every callback of it is run from.
_MACHINERY = ("asyncio/base_events.py", "asyncio/events.py", "selectors.py")

#: Folder of this package, whose own frames are nobody's business.
_PACKAGE = __file__.rpartition("/")[0] + "/"


# Tasks


def coroutine_of(task: asyncio.Task[Any]) -> Any:
    """What a task runs; None of one that ended while it was made."""
    # Such a task crashes the process if it is asked for it with `get_coro`, before CPython 3.12.5.
    kept: Any = task
    return kept._coro if hasattr(kept, "_coro") else kept.get_coro()


def state_of(task: asyncio.Task[Any], loop: asyncio.AbstractEventLoop) -> str:
    """Whether it runs, or what it waits for."""
    awaited = getattr(task, "_fut_waiter", None)
    coroutine = coroutine_of(task)
    if task.done():
        state = "done"
    elif task is asyncio.current_task(loop):
        state = "running"
    elif awaited is not None:
        state = f"waiting for {_brief(awaited)}"
    elif inspect.iscoroutine(coroutine) and inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
        state = "not begun"
    else:
        state = "ready to go on"
    times = task.cancelling()
    if times:
        state += ", cancelled" if times == 1 else f", cancelled {times} times"
    return state


def stack_of(task: asyncio.Task[Any], loop: asyncio.AbstractEventLoop, thread: int | None) -> str:
    """The stack of coroutines it is suspended in, innermost last; of the task that runs, down to where it is now."""
    frames = _await_stack(task)
    if frames and task is asyncio.current_task(loop):
        frames = list(_frames_up_to(frames[0], frame_of(thread))) or frames
    return _format(frames)


def stack_of_generator(generator: AsyncGeneratorType[Any, Any] | None) -> str:
    """Where an async generator is suspended that nobody awaits just now."""
    frame = None if generator is None else generator.ag_frame
    return "" if frame is None else _format([frame])


def creation_of(task: asyncio.Task[Any]) -> list[str]:
    """Where a coroutine made it, in a line; none unless the loop is in debug mode, in which asyncio remembers."""
    frames: list[traceback.FrameSummary] = getattr(task, "_source_traceback", None) or []
    users = [frame for frame in frames if "/asyncio/" not in frame.filename]
    return [f'  made at File "{at.filename}", line {at.lineno}, in {at.name}' for at in users[-1:]]


def awaiting_tasks(future: asyncio.Future[Any]) -> list[asyncio.Task[Any]]:
    """The tasks that go on when it is done, also by way of `gather`, `wait`, `shield` or a `TaskGroup`."""
    found: dict[asyncio.Task[Any], None] = {}
    seen: set[int] = set()
    waiting = [future]
    while waiting:
        at = waiting.pop()
        if id(at) in seen:
            continue
        seen.add(id(at))
        for callback, _ in getattr(at, "_callbacks", None) or ():
            for held in _held_by(callback):
                if isinstance(held, asyncio.Task):
                    found[held] = None
                elif isinstance(held, asyncio.Future) and not held.done():
                    waiting.append(held)
    return list(found)


def _held_by(callback: Any) -> Iterator[Any]:
    """What a done-callback of a future acts upon."""
    while isinstance(callback, functools.partial):
        yield from callback.args
        callback = callback.func
    owner = getattr(callback, "__self__", None)
    yield getattr(owner, "_parent_task", owner)  # A `TaskGroup` is told by its tasks, and tells its parent.
    for cell in getattr(callback, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # of a variable that has no value yet
            yield cell.cell_contents


def _await_stack(task: asyncio.Task[Any]) -> list[FrameType]:
    frames: list[FrameType] = []
    awaited = coroutine_of(task)
    while awaited is not None:
        kind = type(awaited)  # `isinstance` asks the object itself, which may have an answer of its own
        if kind in _PREFIXES:
            # Coroutines, generators and async generators name the same two things differently.
            prefix = _PREFIXES[kind]
            frame = getattr(awaited, f"{prefix}_frame")
            if frame is not None:
                frames.append(frame)
            awaited = awaited_by(awaited, f"{prefix}_yieldfrom" if prefix == "gi" else f"{prefix}_await")
        elif kind.__module__ == "builtins":
            # A wrapper of the interpreter's own, such as that of `anext`, tells only the collector what it runs.
            awaited = next((held for held in gc.get_referents(awaited) if type(held) in _PREFIXES), None)
        else:
            break
    return frames


def _brief(awaited: Any) -> str:
    if isinstance(awaited, asyncio.Task):
        return f"task {awaited.get_name()}"
    return type(awaited).__name__.removeprefix("_")


# Threads


def frame_of(thread: int | None) -> FrameType | None:
    """The innermost frame of a thread, by its number."""
    return None if thread is None else sys._current_frames().get(thread)


def is_ours(frame: FrameType, name: str | None = None) -> bool:
    """Whether a frame is of a function of this package, of this name if one is given."""
    code = frame.f_code
    return code.co_filename.startswith(_PACKAGE) and name in (None, code.co_name)


def thread_name(thread: int) -> str:
    """The name of a thread, by its number."""
    for each in threading.enumerate():
        if each.ident == thread:
            return each.name
    return f"thread {thread}"


def describe_thread(thread: int | None) -> str:
    """The Python stack of a loop's thread, innermost last, without the frames that every callback is run from."""
    frames = list(_frames_up_to(None, frame_of(thread)))
    inside = frames
    for index, frame in enumerate(frames):
        if is_ours(frame, "_run_until_done") or is_machinery(frame):
            inside = frames[index + 1 :]
    return _format(inside or frames[-1:])


def caller(thread: int) -> str:
    """A thread's name and where it called this library."""
    frame = frame_of(thread)
    while frame is not None and is_ours(frame):
        frame = frame.f_back
    if frame is None:
        return thread_name(thread)
    code = frame.f_code
    return (
        f'{thread_name(thread)}, in File "{code.co_filename}", line {frame.f_lineno}, in {code.co_qualname}'
    )


def is_idle(thread: int | None) -> bool:
    """Whether a loop's thread waits for something to do, rather than being in a call: it is in the loop's own code."""
    frame = frame_of(thread)
    while frame is not None and is_machinery(frame) and frame.f_code.co_name != "_run":
        frame = frame.f_back
    return frame is None or is_ours(frame, "_run_until_done")


def is_machinery(frame: FrameType) -> bool:
    """Whether a frame is the standard loop's own, below every callback that it runs."""
    return frame.f_code.co_filename.endswith(_MACHINERY)


def describe_circle(threads: list[int]) -> str:
    """Why a wait of the first of these loops' threads would be for ever: each waits for the next."""
    others = [thread_name(thread) for thread in threads[1:]]
    waits = ", which waits for ".join([*others, "this very loop"])
    return (
        f"{thread_name(threads[0])} would wait for ever for {waits}: its thread is blocked while it waits. `await` "
        "instead (`await asyncio.wrap_future(loop.submit(...))`), or wait in a thread (`await asyncio.to_thread(...)`)"
    )


def _frames_up_to(outermost: FrameType | None, frame: FrameType | None) -> Iterator[FrameType]:
    """The frames from the outermost, or the thread's first, to this one; none if the outermost isn't among them."""
    frames = []
    while frame is not None:
        frames.append(frame)
        if frame is outermost:
            break
        frame = frame.f_back
    if frame is outermost:
        yield from reversed(frames)


def _format(frames: list[FrameType]) -> str:
    shown = [frame for frame in frames if not is_ours(frame)] or frames
    summary = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in shown)
    return "".join(summary.format()).rstrip()
