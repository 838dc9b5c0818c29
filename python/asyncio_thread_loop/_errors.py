"""The errors this library raises on its own account, and how it reports those of others that nobody asked for."""

import asyncio

__all__ = ["DeadlockError", "ForkedError", "LoopClosedError", "report_unretrieved"]


class LoopClosedError(RuntimeError):
    """The loop isn't running: it hasn't been started, it was left, or it gave up on this work."""


class DeadlockError(RuntimeError):
    """The call would wait for ever, because it blocks the very thread that is to finish it."""


class ForkedError(RuntimeError):
    """The object belongs to the process that forked this one."""


for _error in (LoopClosedError, DeadlockError, ForkedError):
    _error.__module__ = "asyncio_thread_loop"


def report_unretrieved(
    loop: asyncio.AbstractEventLoop, exception: BaseException, from_elsewhere: bool
) -> None:
    """Tells a loop's exception handler of an exception that nobody asked for, on the loop's thread while it runs."""
    report = {"message": "Future exception was never retrieved", "exception": exception}
    if from_elsewhere:
        loop.call_soon_threadsafe(loop.call_exception_handler, report)
    else:
        loop.call_exception_handler(report)
