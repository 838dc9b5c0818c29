"""The faces of one loop: which there are, and what gets one."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from .._coroutines import close_unstarted
from .._errors import DeadlockError, ForkedError, LoopClosedError
from .._native import BoundMethod, FaceCore, FacesCore, Registry, is_current, original_of
from . import callbacks
from .addresses import address
from .arguments import Parameters
from .calls import call_function, construct
from .classes import Face, FaceType, Generated, generate
from .evidence import gives_something_async, has_something_async
from .functions import Method, SyncFunction
from .kinds import Kind, is_async_function, kind_of, leaves_to_object, makes_coroutine
from .results import converter

if TYPE_CHECKING:
    from .._loop import AsyncioThreadLoop

__all__ = ["Faces", "faces_of"]

#: Seconds after which a `repr` doesn't wait any more for a loop that is busy.
_PATIENCE = 1.0

#: The faces of each loop, by its address. They keep the loop alive, and are kept alive by any face.
_everybody = Registry()


def faces_of(loop: AsyncioThreadLoop) -> Faces:
    """What the faces of a loop share."""
    found: Faces | None = _everybody.get(id(loop))
    return _everybody.setdefault(Faces(loop), id(loop)) if found is None else found


class Faces(FacesCore):
    """Finds or makes the faces of a loop.

    Instances, functions and local classes that nobody uses any more are let go with their faces.
    """

    def __init__(self, loop: AsyncioThreadLoop) -> None:
        self.loop = loop
        #: By the addresses of their originals.
        self.classes = Registry()
        self.instances = Registry()
        self.functions = Registry()
        self.futures = Registry()
        self.callbacks = Registry()
        #: The faces of classes that are there for good, so that they aren't made again for each result.
        self.lasting: set[type[Face]] = set()

    # What users ask for.

    def to_sync(self, given: Any) -> Any:
        """The face of a function, a class or an instance."""
        if isinstance(given, FaceCore):
            self.unwrap(given)  # which raises if it is another loop's
            return given
        if isinstance(given, BoundMethod):
            self.unwrap(given.__self__)
            return given
        if isinstance(given, FaceType):
            return given if given.__face__.faces is self else self.face_class(given.aio)
        if isinstance(given, SyncFunction):
            return self.function(given.aio)
        if isinstance(given, type):
            if not has_something_async(given):
                raise TypeError(f"{given!r} has nothing asynchronous about it: use it as it is")
            return self.face_class(given)
        if inspect.isroutine(given) or isinstance(given, functools.partial):
            if not gives_something_async(given):
                raise TypeError(
                    f"{given!r} is not asynchronous, and nothing says that it returns something that is: "
                    "call it as it is, or on the loop's thread with call()"
                )
            return self.function(given)
        return self._of_instance(given)

    def _of_instance(self, given: Any) -> Any:
        kind = kind_of(type(given))
        if inspect.iscoroutine(given):
            close_unstarted(given)
            raise TypeError(f"{given!r} is a coroutine, which evaluate() or submit() takes")
        if kind is Kind.FUTURE:
            raise TypeError(f"{given!r} is a future, which evaluate() or submit() takes")
        if kind in (Kind.ASYNC_GENERATOR, Kind.ASYNC_CONTEXT_MANAGER):
            return self.convert(given)
        if not has_something_async(type(given)):
            raise TypeError(
                f"an asynchronous function, class or instance was expected, got {given!r}, which has nothing "
                "asynchronous about it"
            )
        return self.face(given)

    # The faces that there are.

    def face_class(self, original: type) -> type[Face]:
        """The face of a class."""
        found: type[Face] | None = self.classes.get(id(original))
        if found is None:
            found = self.classes.setdefault(generate(self, original), id(original))
            if _lasts(original):
                self.lasting.add(found)
        return found

    def face(self, original: object, *, is_result: bool = False) -> Face:
        """The face of an instance: the one that there is, unless it is of a life of the loop that is over."""
        found: Face | None = self.instances.get(id(original))
        if found is not None and is_current(found):
            return found
        cls = self.face_class(type(original))
        face: Face = Face.__new__(cls)
        self.attach(face, original, is_result)
        if found is None:
            return self.instances.setdefault(face, id(original))
        self.instances.replace(face, id(original))
        return face

    def function(self, original: Callable[..., Any]) -> SyncFunction[..., Any, Any]:
        """The face of a function or a bound method."""
        key = address(original)
        found: SyncFunction[..., Any, Any] | None = self.functions.get(*key)
        if found is not None and found.aio == original:
            return found
        face: SyncFunction[..., Any, Any] = SyncFunction(self, original, makes_coroutine(original))
        functools.update_wrapper(face, original, updated=())
        self.functions.replace(face, *key)
        return face

    # What becomes of values on their way in and out. The native half asks for the first two.

    @staticmethod
    def _converter(class_: type) -> Callable[[Faces, Any], Any] | None:
        """What converts results of a class."""
        return converter(class_)

    def _callback(
        self,
        holder: Method | SyncFunction[..., Any, Any] | Generated,
        function: Callable[..., Any],
        position: int | str,
    ) -> Callable[..., Any]:
        """What an original gets for a function that it is called with."""
        if is_async_function(function) or _parameters_of(holder).need_value(position):
            return function
        return callbacks.callback(self, function)

    def present(self, value: Any) -> Any:
        """What synchronous code gets for a value that isn't the result of a call, so that nobody has it awaited."""
        return value if kind_of(type(value)) in (Kind.AWAITED, Kind.GENERATOR) else self.convert(value)

    def present_attribute(self, value: Any) -> Any:
        """The same for an attribute. A method of another object is as good as one of the original's own."""
        if isinstance(value, types.MethodType) or (inspect.isfunction(value) and is_async_function(value)):
            return self.function(value)
        return self.present(value)

    @staticmethod
    async def awaiting(awaitable: Awaitable[Any]) -> Any:
        """A coroutine that awaits something."""
        return await awaitable

    def construct(self, generated: Generated, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A new original, made on the loop's thread."""
        args, kwargs = self.arguments(generated, args, kwargs)
        return self.run(construct(generated.original, args, kwargs))

    @property
    def run_here(self) -> bool:
        """Whether the calling thread is the loop's."""
        session = self.loop._session
        return session is not None and session.runs_here

    def describe(self, face: Face) -> str:
        """The `repr` of a face's original, or as much as can be said of it now."""
        original = original_of(face)
        if leaves_to_object(type(original), "__repr__") or not is_current(face):
            return object.__repr__(original)
        if self.run_here:
            return repr(original)
        try:
            described: str = self.loop.evaluate(call_function(repr, (original,), {}), timeout=_PATIENCE)
        except (LoopClosedError, DeadlockError, ForkedError, TimeoutError):
            return object.__repr__(original)
        return described


def _lasts(cls: type) -> bool:
    """Whether a class is found by its name, and so lives as long as the program does."""
    found: object = sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is cls


def _parameters_of(holder: Method | SyncFunction[..., Any, Any] | Generated) -> Parameters:
    """What is known of the parameters of something that is called. It is found out when it first gets a callback."""
    if holder.parameters is None:
        holder.parameters = Parameters(holder.aio, skip=1 if isinstance(holder, Method) else 0)
    return holder.parameters
