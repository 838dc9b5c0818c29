"""Call async code from synchronous code as if it were an ordinary function call.

PYTEST_DONT_REWRITE: it comes with a plugin, and pytest would warn where it has been imported before.
"""

from ._context_managers import SyncContextManager as SyncContextManager
from ._default import get_default_loop as get_default_loop
from ._default import run as run
from ._errors import DeadlockError as DeadlockError
from ._errors import ForkedError as ForkedError
from ._errors import LoopClosedError as LoopClosedError
from ._event_loop import EventLoop as EventLoop
from ._faces import SyncFunction as SyncFunction
from ._future import Future as Future
from ._iterate import SyncGenerator as SyncGenerator
from ._iterate import SyncIterator as SyncIterator
from ._loop import AsyncioThreadLoop as AsyncioThreadLoop
from ._loop import SimpleAsyncioThreadLoop as SimpleAsyncioThreadLoop
from ._start_task import TaskStatus as TaskStatus

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
