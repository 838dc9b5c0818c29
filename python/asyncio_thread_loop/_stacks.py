"""What a task or a thread is doing right now, in words."""

from __future__ import annotations

import asyncio
import sys
import traceback
from types import FrameType
from typing import Any

__all__ = ["describe_task", "describe_thread", "is_idle"]

#: Innermost functions of a thread whose loop has nothing to do.
_WAITING = {"run_forever", "_run_once", "select", "_run_until_done"}


def describe_task(task: asyncio.Task[Any]) -> str:
    """A task's name and the stack of coroutines it is suspended in, innermost last."""
    summary = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in _await_stack(task))
    lines = [f"{task.get_name()} {getattr(task.get_coro(), '__qualname__', task.get_coro())!s}:\n"]
    return "".join(lines + summary.format()).rstrip()


def describe_thread(ident: int | None) -> str:
    """The Python stack of a running thread, innermost last."""
    frame = _frame_of(ident)
    return "" if frame is None else "".join(traceback.format_stack(frame)).rstrip()


def is_idle(ident: int | None) -> bool:
    """Whether a loop's thread seems to wait for something to do, rather than to be stuck in a call."""
    frame = _frame_of(ident)
    return frame is None or frame.f_code.co_name in _WAITING


def _frame_of(ident: int | None) -> FrameType | None:
    return None if ident is None else sys._current_frames().get(ident)


def _await_stack(task: asyncio.Task[Any]) -> list[FrameType]:
    frames: list[FrameType] = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        # Coroutines, generators and async generators name the same two things differently.
        for prefix in ("cr", "gi", "ag"):
            frame = getattr(awaited, f"{prefix}_frame", None)
            if frame is not None:
                frames.append(frame)
                awaited = getattr(awaited, f"{prefix}_await" if prefix != "gi" else "gi_yieldfrom", None)
                break
        else:
            break
    return frames
