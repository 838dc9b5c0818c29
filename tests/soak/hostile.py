"""Objects and errors that behave as badly as Python allows. What they raise is marked as planted."""

import asyncio


class Planted(Exception):
    """An error that the soak raised on purpose."""


class PlantedBase(BaseException):
    """The same, and not to be caught by `except Exception`."""


class WithoutRepr(Planted):
    def __repr__(self):
        raise Planted("in __repr__")

    __str__ = __repr__


class WithoutAttributes(Planted):
    def __setattr__(self, name, value):
        raise Planted(f"in __setattr__ of {name}")


class WithoutNotes(Planted):
    def add_note(self, note):
        raise PlantedBase("in add_note")


class WithOddNotes(Planted):
    """Has notes that are no list, so that none can be added."""

    __notes__ = 42


class Unmakable(Planted):
    def __init__(self, *args):
        raise Planted("in __init__")


class Unreadable(Planted):
    """Fails whenever one of its special attributes is read by name."""

    def __getattribute__(self, name):
        if name in {"__notes__", "__traceback__", "__cause__", "__context__"}:
            raise PlantedBase(f"in __getattribute__ of {name}")
        return super().__getattribute__(name)


ODD_ERRORS = [WithoutRepr, WithoutAttributes, WithoutNotes, WithOddNotes, Unmakable, Unreadable]


class Value:
    """A result that can't be compared, tested, hashed or shown. Only its identity is good for anything."""

    def _fails(self, *_):
        raise Planted("in a special method of a value")

    __eq__ = __bool__ = __hash__ = __repr__ = __len__ = _fails


class LastWords:
    """Raises when it is dropped."""

    def __del__(self):
        raise Planted("in __del__")


class Bystander:
    """An async context manager that raises when it is entered or left."""

    def __init__(self, fails_at):
        self._fails_at = fails_at

    async def __aenter__(self):
        await asyncio.sleep(0)
        if self._fails_at == "enter":
            raise Planted("in __aenter__")

    async def __aexit__(self, *_):
        await asyncio.sleep(0)
        if self._fails_at == "exit":
            raise Planted("in __aexit__")


class Awaitable:
    """Makes its coroutine when it is awaited, or raises then."""

    def __init__(self, make, fails=False):
        self._make = make
        self._fails = fails

    def __await__(self):
        if self._fails:
            raise Planted("in __await__")
        return self._make().__await__()


def raises_planted(*_):
    """A callback, a handler, an initializer or a factory that fails."""
    raise Planted("in a callback")


def is_planted(error):
    """Whether an error is the soak's own, or what Python made of one."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, (Planted, PlantedBase, asyncio.CancelledError, RecursionError)):
            return True
        ends = SystemExit, KeyboardInterrupt, StopIteration, StopAsyncIteration
        if isinstance(error, ends) and "planted" in error.args:
            return True
        error = error.__cause__ or error.__context__
    return False
