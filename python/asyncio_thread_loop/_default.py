"""One loop per process, for those who don't want to pass one around."""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable
from typing import TypeVar

from ._coroutines import close_unstarted
from ._loop import AsyncioThreadLoop
from ._native import boundary

__all__ = ["get_default_loop", "run"]

T = TypeVar("T")

_default: AsyncioThreadLoop | None = None
_making = threading.Lock()


@boundary
def get_default_loop() -> AsyncioThreadLoop:
    """The loop of this process, started when it is first asked for. It ends with the interpreter.

    After somebody closed it, the next call starts it afresh. A forked child gets its own. May be called from any
    thread.

    >>> get_default_loop() is get_default_loop()
    True
    """
    global _default
    with _making:
        if _default is None:
            _default = AsyncioThreadLoop(name="AsyncioThreadLoop-default")
        if _default._is_inherited:
            _default._after_fork()
        elif _default.loop is None:
            _default.start()
        return _default


@boundary
def run(coro: Awaitable[T], timeout: float | None = None) -> T:
    """Runs a coroutine on the default loop and returns its result: `get_default_loop().evaluate(coro, timeout)`.

    >>> run(asyncio.sleep(0.01, "done"))
    'done'
    """
    try:
        loop = get_default_loop()
    except BaseException:
        close_unstarted(coro)
        raise
    return loop.evaluate(coro, timeout)


def _in_forked_child() -> None:
    global _making
    _making = threading.Lock()


os.register_at_fork(after_in_child=_in_forked_child)
