"""What is left when a piece of code has ended: tasks on a loop, threads and descriptors of the process, in words."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from . import _default, _dump, _stacks

if TYPE_CHECKING:
    from ._session import Session

__all__ = ["Census", "once_settled", "unfinished_work"]


def once_settled(looks: Mapping[str, Callable[[], list[str]]], grace: float) -> dict[str, list[str]]:
    """What each look finds, once all of them have had `grace` seconds in which to find nothing.

    What only the garbage collector can end is ended, too. The clock isn't asked: tests replace it.
    """

    def look_around() -> dict[str, list[str]]:
        return {kind: found for kind, look in looks.items() if (found := look())}

    left = look_around()
    if left:
        gc.collect()
    waited, pause = 0.0, 0.005
    while left and waited < grace:
        threading.Event().wait(pause)
        waited += pause
        pause = min(2 * pause, 0.1)
        left = look_around()
    return left


def unfinished_work(session: Session) -> list[str]:
    """The tasks of a loop that haven't ended and the calls that haven't begun, each described.

    Contexts that are left with the loop go on until then, and so does what they started, as far as one can tell: of a
    loop with contexts, only calls count.
    """
    if session.done():
        return []
    tasks = session.submitted_tasks() if session.contexts else None
    return [*_dump.describe_tasks(session, tasks), *_dump.describe_calls_not_begun(session)]


class Census:
    """The threads and descriptors of this process at one moment, for finding those that came later.

    What is kept from the moment that it is first needed doesn't count: the default loop and what it watches, what
    `multiprocessing`, tqdm and uvloop keep for the life of the process, and the threads of other event loops' default
    executors. Descriptors count only where there is a `/proc`.
    """

    def __init__(self) -> None:
        _have_uvloop_open_its_pipe()
        self._threads = set(threading.enumerate())
        self._descriptors = _descriptors()

    def leave_out_what_came_since(self, later: Census) -> None:
        """Has what is new since a later census count as having been there before."""
        self._threads |= set(threading.enumerate()) - later._threads
        self._descriptors |= later._new_descriptors()

    def new_threads(self) -> list[str]:
        """Each that is alive, with what it does."""
        new = [each for each in threading.enumerate() if each not in self._threads and not _is_kept(each)]
        if not new:
            return []
        workers = _workers_of_open_loops()
        return [_describe_thread(each) for each in new if each not in workers]

    def new_descriptors(self) -> list[str]:
        """Each with what it points at; also one that points at something else than it did."""
        new = self._new_descriptors()
        if not new:
            return []
        kept = {*_descriptors_of_multiprocessing(), *_descriptors_of_default_loop()}
        return [_describe_descriptor(each, target) for each, target in new.items() if each not in kept]

    def _new_descriptors(self) -> dict[int, str]:
        before = self._descriptors
        return {each: target for each, target in _descriptors().items() if before.get(each) != target}


# What is there


def _descriptors() -> dict[int, str]:
    """What each open descriptor points at."""
    targets = {}
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            # One of them was the listing's own.
            with contextlib.suppress(OSError):
                targets[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return targets


def _describe_thread(thread: threading.Thread) -> str:
    kind = "daemon thread" if thread.daemon else "thread"
    stack = _stacks.describe_thread(thread.ident)
    return f"{kind} {thread.name!r}" + (f", in\n{stack}" if stack else "")


def _describe_descriptor(descriptor: int, target: str) -> str:
    description = f"descriptor {descriptor}: {target}"
    if target.startswith("socket:"):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as copy:
            description += f", {copy.family.name} at {copy.getsockname()!r}"
            description += f", connected to {copy.getpeername()!r}"
    return description


# What stays


_uvloop_has_its_pipe = False


def _have_uvloop_open_its_pipe() -> None:
    """libuv opens a pipe for signals with the first loop of a process, and keeps it."""
    global _uvloop_has_its_pipe
    uvloop = sys.modules.get("uvloop")
    if uvloop is not None and not _uvloop_has_its_pipe:
        uvloop.new_event_loop().close()
        _uvloop_has_its_pipe = True


def _is_kept(thread: threading.Thread) -> bool:
    default = _default._default
    if default is not None and thread is default.thread:
        return True
    monitor = getattr(sys.modules.get("tqdm._monitor"), "TMonitor", ())
    # Of a thread that isn't Python's own it doesn't know whether it is alive.
    return isinstance(thread, (threading._DummyThread, monitor))


def _workers_of_open_loops() -> set[threading.Thread]:
    """The threads of the default executors of event loops, which stay as long as their loop is open.

    A loop that a test leaves open has descriptors of its own, by which it is found.
    """
    workers: set[threading.Thread] = set()
    for each in gc.get_objects():
        # `isinstance` would ask the object, which may have an answer of its own.
        if issubclass(type(each), asyncio.BaseEventLoop) and not each.is_closed():
            workers.update(getattr(each._default_executor, "_threads", ()))
    return workers


def _descriptors_of_multiprocessing() -> Iterator[int | None]:
    """Those of its helper processes, which end with this one."""
    tracker = sys.modules.get("multiprocessing.resource_tracker")
    yield getattr(getattr(tracker, "_resource_tracker", None), "_fd", None)
    server = sys.modules.get("multiprocessing.forkserver")
    yield getattr(getattr(server, "_forkserver", None), "_forkserver_alive_fd", None)


def _descriptors_of_default_loop() -> Iterator[int]:
    """Its own, and those of what it watches: connections that are to outlive a test are made there."""
    loop = None if _default._default is None else _default._default.loop
    if loop is None:
        return
    own = [loop._ssock.fileno(), loop._csock.fileno()]  # type: ignore[attr-defined]
    yield from own
    for descriptor, target in _descriptors().items():
        if target == "anon_inode:[eventpoll]":
            with contextlib.suppress(OSError), open(f"/proc/self/fdinfo/{descriptor}") as info:
                watched = {int(each) for each in re.findall(r"^tfd:\s*(\d+)", info.read(), re.MULTILINE)}
                if own[0] in watched:
                    yield from {descriptor, *watched}
