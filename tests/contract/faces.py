"""An asynchronous library as users know them, for the tests of its faces."""

import asyncio
import functools
import threading
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any


def here():
    return threading.get_ident()


class Resource:
    """Something with a life of its own, like a connection."""

    #: Stored in the class.
    kind = "resource"

    def __init__(self, name="resource", *, size=3):
        """Make one."""
        self.name = name
        self.size = size
        self.events = []
        self.made_on = here()

    @classmethod
    def named(cls, name):
        """Make one by its name."""
        return cls(name)

    @classmethod
    async def opened(cls, name):
        await asyncio.sleep(0)
        return cls(name)

    @staticmethod
    async def version():
        return 42

    @staticmethod
    def thread():
        return here()

    async def get(self, key: str, *, default: int = 0) -> int:
        """Get a value."""
        await asyncio.sleep(0)
        return len(key) + default

    def plain_get(self, key):
        return len(key)

    def lazy_get(self, key):
        return self.get(key)

    async def where(self):
        return here()

    def plain_where(self):
        return here()

    async def fail(self):
        await asyncio.sleep(0)
        raise ZeroDivisionError("of a method")

    def plain_fail(self):
        raise ZeroDivisionError("of a plain method")

    @property
    def property_where(self):
        return here()

    @property
    def label(self):
        return self.events[-1]

    @label.setter
    def label(self, value):
        self.events.append((value, here()))

    @label.deleter
    def label(self):
        self.events.append(("deleted", here()))

    @property
    async def eventual(self):
        await asyncio.sleep(0)
        return "at last"

    @functools.cached_property
    def cached_where(self):
        return here()

    async def count(self, to: int):
        try:
            for number in range(to):
                await asyncio.sleep(0)
                yield number
        finally:
            self.events.append("counted")

    def plain_count(self, to):
        for number in range(to):
            yield number, here()

    @asynccontextmanager
    async def transaction(self):
        self.events.append("begin")
        try:
            yield self
        except KeyError:
            self.events.append("rollback")
        else:
            self.events.append("commit")

    def cursor(self):
        return Cursor(self)

    def acquire(self):
        return Acquiring(self)

    async def myself(self):
        return self

    async def pair(self):
        return self, "a string"

    async def many(self):
        return [Resource("a"), Resource("b")]

    def task(self, value):
        async def work():
            await asyncio.sleep(0)
            return value

        return asyncio.create_task(work())

    async def echo(self, *args, **kwargs):
        return args, kwargs

    async def types(self, *args, **kwargs):
        return [type(each) for each in (*args, *kwargs.values())]

    async def same(self, other):
        return other is self


class SpecialResource(Resource):
    """One that does more."""

    async def get(self, key: str, *, default: int = 0) -> int:
        return 100 + await super().get(key, default=default)

    async def extra(self):
        return "extra"


class Cursor:
    """Iterated over."""

    def __init__(self, resource):
        self.resource = resource
        self.left = 3

    def __aiter__(self):
        return self

    async def __anext__(self):
        await asyncio.sleep(0)
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return Row(self.left)


class Row:
    """Plain data, but for a method."""

    def __init__(self, number):
        self.number = number

    async def reload(self):
        return self.number


class Acquiring:
    """Awaited or entered, as aiohttp's requests are."""

    def __init__(self, resource):
        self._resource = resource

    def __await__(self):
        return self._resource.myself().__await__()

    async def __aenter__(self):
        self._task = asyncio.current_task()
        self._resource.events.append("acquired")
        return self._resource

    async def __aexit__(self, kind, error, traceback):
        assert asyncio.current_task() is self._task
        self._resource.events.append("released" if error is None else f"released by {kind.__name__}")


class Emitter:
    """Takes callbacks."""

    def __init__(self, on_event=None):
        self.callbacks = [] if on_event is None else [on_event]

    def add(self, callback):
        self.callbacks.append(callback)
        return callback

    def remove(self, callback):
        self.callbacks.remove(callback)

    async def emit(self, *args):
        return [await callback(*args) for callback in self.callbacks]

    async def emit_without_waiting(self, *args):
        for callback in self.callbacks:
            callback(*args)

    async def dump(self, value, encode: Callable[[Any], str]) -> str:
        return "dumped " + encode(value)

    async def notify(self, fn: Callable[[str], Awaitable[None] | None], text: str) -> Any:
        return await fn(text)

    async def transform(self, fn: "Callable[..., NotImportedAnywhere]", value):  # noqa: F821
        return await fn(value)

    async def call(self, fn, value):
        return await fn(value)
