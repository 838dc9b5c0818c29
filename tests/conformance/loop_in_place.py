"""Puts the loop under test where CPython's tests of asyncio make theirs, and notices when they do.

They make it by `asyncio.new_event_loop()`, `asyncio.run()`, `asyncio.SelectorEventLoop()` or `asyncio.EventLoop()`,
or ask the default policy for it: in all of these the standard selector loop is replaced. What they derive from
asyncio's base classes and what they make of these is not, as these are inside the standard loop; `portable` moves
those tests of them that a loop of any kind can be asked.
"""

import asyncio
import asyncio.unix_events
import types

LOOPS = ["standard", "uvloop", "native"]

made = []
"""A mark for each loop under test made so far. Whoever wants to know of a time clears it before."""


def put_in_place(loop):
    """From now on asyncio's selector loop is this one, in this process. Returns its class."""
    under_test = {"standard": _standard, "uvloop": _uvloop, "native": _native}[loop]()
    asyncio.SelectorEventLoop = asyncio.unix_events.SelectorEventLoop = under_test
    if hasattr(asyncio, "EventLoop"):
        asyncio.EventLoop = asyncio.unix_events.EventLoop = under_test
    asyncio.unix_events._UnixDefaultEventLoopPolicy._loop_factory = under_test
    return under_test


def _standard():
    class SelectorEventLoop(asyncio.SelectorEventLoop):
        def __init__(self, selector=None):
            made.append(type(self))
            super().__init__(selector)

    return SelectorEventLoop


def _native():
    from asyncio_thread_loop import EventLoop

    return _polling_by_itself(EventLoop)


def _uvloop():
    import uvloop

    class Loop(_polling_by_itself(uvloop.Loop)):
        # The tests' clean-up looks for it, to wait for its threads. uvloop hides it.
        _default_executor = types.SimpleNamespace(shutdown=lambda wait: None)

    return Loop


def _polling_by_itself(loop):
    class Loop(loop):
        def __init__(self, selector=None):
            # Some test classes run the same tests once with epoll, once with poll, once with select.
            made.append(type(self))
            if selector is not None:
                selector.close()
            super().__init__()

    Loop.__name__ = Loop.__qualname__ = loop.__name__
    return Loop
