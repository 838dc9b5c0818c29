"""The errors this library raises on its own account."""

__all__ = ["DeadlockError", "ForkedError", "LoopClosedError"]


class LoopClosedError(RuntimeError):
    """The loop isn't running: it hasn't been started, it was left, or it gave up on this work."""


class DeadlockError(RuntimeError):
    """The call would wait for ever, because it blocks the very thread that is to finish it."""


class ForkedError(RuntimeError):
    """The object belongs to the process that forked this one."""


for _error in (LoopClosedError, DeadlockError, ForkedError):
    _error.__module__ = "asyncio_thread_loop"
