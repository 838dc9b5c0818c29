"""What a face's class has for each member of its original's class."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from .._context_managers import SyncContextManager
from .._coroutines import await_in_coroutine
from .._iterate import SyncIterator, iterate
from .._native import boundary, contexts_of
from .attributes import read_attribute
from .calls import steps, take_next
from .functions import Method
from .kinds import makes_coroutine

if TYPE_CHECKING:
    from .classes import Face
    from .faces import Faces

__all__ = ["members_of"]

#: Special methods that are passed on as they are.
_SPECIAL = frozenset(
    f"__{name}__"
    for names in (
        "call str format bytes bool int float complex index round trunc floor ceil fspath",
        "len length_hint getitem setitem delitem contains reversed missing",
        "lt le gt ge ne neg pos abs invert",
        "add sub mul matmul truediv floordiv mod divmod pow lshift rshift and xor or",
        "radd rsub rmul rmatmul rtruediv rfloordiv rmod rdivmod rpow rlshift rrshift rand rxor ror",
        "iadd isub imul imatmul itruediv ifloordiv imod ipow ilshift irshift iand ixor ior",
    )
    for name in names.split()
)


def members_of(faces: Faces, owner: type) -> Iterator[tuple[str, object]]:
    """The members of the face of a class, for those that the class itself defines."""
    special = _SPECIAL if hasattr(owner, "__aenter__") else _SPECIAL | {"__enter__", "__exit__"}
    for name, value in vars(owner).items():
        if name in special or not (name == "aio" or (name.startswith("__") and name.endswith("__"))):
            yield name, _member(faces, owner, name, value)
    yield from _protocols(owner)


def _member(faces: Faces, owner: type, name: str, value: Any) -> object:
    if value is None and name in _SPECIAL:
        return None  # which says that there is none
    if isinstance(value, staticmethod):
        return staticmethod(faces.function(value.__func__))
    if isinstance(value, classmethod):
        return ClassMethod(name, value)
    if isinstance(value, type) or not (callable(value) or isinstance(value, functools.partialmethod)):
        return Attribute(name, value)
    if not (inspect.isroutine(value) or hasattr(type(value), "__get__")):
        return Attribute(name, value)
    function: Any = value
    method = Method(faces, owner, name, function, makes_coroutine(function))
    return functools.update_wrapper(method, function, updated=())


def _protocols(owner: type) -> Iterator[tuple[str, object]]:
    """The synchronous protocols in the place of the asynchronous ones. Where a class has both, these win."""
    own = vars(owner)
    if "__aenter__" in own or "__aexit__" in own:
        yield "__enter__", enter
        yield "__exit__", leave
    if "__aiter__" in own:
        yield "__iter__", iterate_over
    elif "__iter__" in own and not hasattr(owner, "__aiter__") and not hasattr(owner, "__await__"):
        yield "__iter__", iterate_plainly
    if "__anext__" in own or ("__next__" in own and not hasattr(owner, "__anext__")):
        yield "__next__", next_of
    if "__await__" in own and not hasattr(owner, "result"):
        yield "result", result


class Attribute:
    """A member that isn't called: a property, a slot, a value of the class."""

    def __init__(self, name: str, value: object = None) -> None:
        self.__name__ = name
        self.__doc__ = value.__doc__ if hasattr(type(value), "__get__") else None

    @boundary
    def __get__(self, face: Face | None, owner: type[Face]) -> Any:
        if face is not None:
            return read_attribute(owner.__face__.faces, face, self.__name__)
        record = owner.__face__
        value = getattr(record.original, self.__name__)
        return self if hasattr(type(value), "__get__") else record.faces.present_attribute(value)

    def __set__(self, face: Face, value: object) -> None:
        setattr(face, self.__name__, value)


class ClassMethod:
    """A class method; it gets the original of the class that it is called on."""

    def __init__(self, name: str, method: classmethod[Any, Any, Any]) -> None:
        self.__name__ = name
        self.__doc__ = method.__doc__

    @boundary
    def __get__(self, face: Face | None, owner: type[Face]) -> Any:
        record = owner.__face__
        return record.faces.function(getattr(record.original, self.__name__))


# Context managers


@boundary
def enter(face: Face) -> Any:
    """Enters the original's asynchronous context."""
    faces = type(face).__face__.faces
    context: SyncContextManager[Any] = SyncContextManager(faces.loop, faces.enter(face), faces.convert)
    value = context.__enter__()
    contexts_of(face).append((threading.get_ident(), context))
    return value


@boundary
def leave(
    face: Face,
    exc_type: type[BaseException] | None = None,
    exc_val: BaseException | None = None,
    exc_tb: TracebackType | None = None,
) -> bool:
    """Leaves it, in the task that entered it."""
    contexts = contexts_of(face)
    if not contexts:
        raise RuntimeError(f"{face!r} has not been entered")
    # Several threads may be in a context at once, in that of a lock or a pool for instance.
    here = threading.get_ident()
    mine = [entry for entry in contexts if entry[0] == here]
    if mine:
        _, context = mine[-1]
        contexts.remove(mine[-1])  # by what it is: its place changes when others leave
    else:
        _, context = contexts.pop()
    is_suppressed: bool = context.__exit__(exc_type, exc_val, exc_tb)
    return is_suppressed


# Iterators

_END: Final = object()


@boundary
def iterate_over(face: Face) -> SyncIterator[Any]:
    """Iterates over the original, which is an async iterable."""
    faces = type(face).__face__.faces
    return iterate(faces.loop, faces.enter(face), 0, faces.convert)


@boundary
def iterate_plainly(face: Face) -> SyncIterator[Any]:
    """Iterates over the original, which is a plain iterable, on the loop's thread."""
    faces = type(face).__face__.faces
    return iterate(faces.loop, steps(functools.partial(iter, faces.enter(face))), 0, faces.convert)


@boundary
def next_of(face: Face) -> Any:
    """The next item of the original."""
    faces = type(face).__face__.faces
    item = faces.run(take_next(faces.enter(face), _END))
    if item is _END:
        raise StopIteration
    return faces.convert(item)


# Awaitables


@boundary
def result(face: Face, timeout: float | None = None) -> Any:
    """Awaits the original and returns what comes of it. `timeout` is in seconds; it is as that of `evaluate`."""
    faces = type(face).__face__.faces
    original: Any = faces.enter(face)
    return faces.convert(faces.loop.evaluate(await_in_coroutine(original), timeout))
