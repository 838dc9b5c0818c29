"""Call async code from synchronous code as if it were an ordinary function call.

PYTEST_DONT_REWRITE: it comes with a plugin, and pytest would warn where it has been imported before.
"""

from typing import TYPE_CHECKING

from ._event_loop import EventLoop as EventLoop

__all__ = [
    "AsyncioThreadLoop",
    "DeadlockError",
    "EventLoop",
    "ForkedError",
    "Future",
    "LoopClosedError",
    "SimpleAsyncioThreadLoop",
    "SyncContextManager",
    "SyncFunction",
    "SyncGenerator",
    "SyncIterator",
    "TaskStatus",
    "get_default_loop",
    "run",
]

if TYPE_CHECKING:
    from ._context_managers import SyncContextManager as SyncContextManager
    from ._default import get_default_loop as get_default_loop
    from ._default import run as run
    from ._errors import DeadlockError as DeadlockError
    from ._errors import ForkedError as ForkedError
    from ._errors import LoopClosedError as LoopClosedError
    from ._faces import SyncFunction as SyncFunction
    from ._future import Future as Future
    from ._iterate import SyncGenerator as SyncGenerator
    from ._iterate import SyncIterator as SyncIterator
    from ._loop import AsyncioThreadLoop as AsyncioThreadLoop
    from ._loop import SimpleAsyncioThreadLoop as SimpleAsyncioThreadLoop
    from ._start_task import TaskStatus as TaskStatus
else:
    # Imported when they are first asked for: a program that only wants the event loop doesn't wait for the rest.
    _MODULES = {
        "AsyncioThreadLoop": "_loop",
        "DeadlockError": "_errors",
        "ForkedError": "_errors",
        "Future": "_future",
        "LoopClosedError": "_errors",
        "SimpleAsyncioThreadLoop": "_loop",
        "SyncContextManager": "_context_managers",
        "SyncFunction": "_faces",
        "SyncGenerator": "_iterate",
        "SyncIterator": "_iterate",
        "TaskStatus": "_start_task",
        "get_default_loop": "_default",
        "run": "_default",
    }

    def __getattr__(name):
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        found = globals()[name] = getattr(import_module(f".{_MODULES[name]}", __name__), name)
        return found

    def __dir__():
        return sorted(globals().keys() | _MODULES.keys())
