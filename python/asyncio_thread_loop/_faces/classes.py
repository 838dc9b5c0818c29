"""The faces of classes and instances."""

from __future__ import annotations

import inspect
import types
from abc import ABC
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, cast

from .._native import FaceCore, boundary, has_original, let_go, original_of
from .attributes import delete_attribute, is_known, read_attribute, write_attribute
from .calls import call_function
from .kinds import leaves_to_object
from .members import members_of

if TYPE_CHECKING:
    from .arguments import Parameters
    from .faces import Faces

__all__ = ["Face", "FaceType", "Generated", "generate", "refuse_pickling"]

#: Bases that say nothing about instances.
_EMPTY = (object, ABC, Generic, Protocol)


class Generated:
    """What a generated class is the face of, and on which loop."""

    def __init__(self, faces: Faces, original: type) -> None:
        self.faces = faces
        self.original = original
        self.parameters: Parameters | None = None

    @property
    def aio(self) -> type:
        return self.original


class FaceType(type):
    """The type of the faces of classes."""

    #: In the generated classes; those that users derive from them inherit it.
    __face__: Generated

    @boundary
    def __call__(cls, /, *args: Any, **kwargs: Any) -> Any:
        generated = vars(cls).get("__face__")
        if generated is None:
            return type.__call__(cls, *args, **kwargs)  # A user's class has its own way to `Face.__init__`.
        faces: Faces = generated.faces
        original = faces.construct(generated, args, kwargs)
        if isinstance(original, generated.original):
            return faces.face(original, is_result=True)
        return faces.convert(original)  # `__new__` made something else.

    @boundary
    def __getattr__(cls, name: str) -> Any:
        # What the original's class got later, or from its own metaclass.
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(
                f"type object {cls.__name__!r} has no attribute {name!r}", name=name, obj=cls
            )
        generated = cls.__face__
        return generated.faces.present_attribute(getattr(generated.original, name))

    @property
    def aio(cls) -> type:
        """The asynchronous original."""
        return cls.__face__.original

    @property
    def __signature__(cls) -> inspect.Signature:
        generated = vars(cls).get("__face__")
        if generated is not None:
            try:
                return inspect.signature(generated.original)
            except (TypeError, ValueError) as error:
                raise AttributeError(f"{generated.original!r} has no signature") from error
        for base in cls.__mro__:
            if isinstance(base, FaceType) and "__face__" in vars(base):
                return base.__signature__
            if "__init__" in vars(base):
                break
        signature = inspect.signature(cls.__init__)  # type: ignore[misc]
        return signature.replace(parameters=list(signature.parameters.values())[1:])

    def __repr__(cls) -> str:
        generated = vars(cls).get("__face__")
        return super().__repr__() if generated is None else f"<synchronous face of {generated.original!r}>"


class Face(FaceCore, metaclass=FaceType):
    """The face of an instance."""

    __slots__ = ()

    @boundary
    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        generated = type(self).__face__
        faces = generated.faces
        original = faces.construct(generated, args, kwargs)
        faces.attach(self, original, True)
        faces.instances.setdefault(self, id(original))

    @property
    def aio(self) -> Any:
        """The asynchronous original."""
        return original_of(self)

    @boundary
    def __getattr__(self, name: str) -> Any:
        if not has_original(self) and name.startswith("__"):
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self
            )
        return read_attribute(type(self).__face__.faces, self, name)

    @boundary
    def __setattr__(self, name: str, value: object) -> None:
        if _is_own(self, name):
            object.__setattr__(self, name, value)
        else:
            write_attribute(type(self).__face__.faces, self, name, value)

    @boundary
    def __delattr__(self, name: str) -> None:
        if _is_own(self, name):
            object.__delattr__(self, name)
        else:
            delete_attribute(type(self).__face__.faces, self, name)

    @boundary
    def __dir__(self) -> Iterable[str]:
        names = set(object.__dir__(self))
        if not has_original(self):
            return names
        faces, original = type(self).__face__.faces, original_of(self)
        if leaves_to_object(type(original), "__dir__"):
            names.update(getattr(original, "__dict__", ()))
        else:
            names.update(faces.run(call_function(dir, (faces.enter(self),), {})))
        return names - _ASYNCHRONOUS

    @boundary
    def __eq__(self, other: object) -> Any:
        original = original_of(self)
        if isinstance(other, FaceCore):
            other = original_of(other)
        if original is other:
            return True
        if leaves_to_object(type(original), "__eq__"):
            return NotImplemented
        faces = type(self).__face__.faces
        return faces.convert(faces.run(call_function(type(original).__eq__, (faces.enter(self), other), {})))

    @boundary
    def __hash__(self) -> int:
        original = original_of(self)
        if leaves_to_object(type(original), "__hash__"):
            return object.__hash__(original)
        faces = type(self).__face__.faces
        value: int = faces.run(call_function(hash, (faces.enter(self),), {}))
        return value

    @boundary
    def __repr__(self) -> str:
        if not has_original(self):
            return f"<synchronous face of a {type(self).__face__.original.__qualname__} that isn't there yet>"
        return f"<synchronous face of {type(self).__face__.faces.describe(self)}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        refuse_pickling(self)

    def __class_getitem__(cls, item: Any) -> types.GenericAlias:
        return types.GenericAlias(cls, item)

    def __del__(self) -> None:
        let_go(self)


_ASYNCHRONOUS = frozenset(("__aenter__", "__aexit__", "__aiter__", "__anext__", "__await__"))


def _is_own(face: Face, name: str) -> bool:
    """Whether a name belongs to the class that a user derived from a face's, and not to the original."""
    cls = type(face)
    if "__face__" in vars(cls):
        return False
    for base in cls.__mro__:
        if "__face__" in vars(base):
            break
        if hasattr(type(vars(base).get(name)), "__set__"):
            return True
    return not (has_original(face) and is_known(original_of(face), name))


def generate(faces: Faces, original: type) -> type[Face]:
    """The face of a class: a class that derives from the faces of its bases."""
    bases = tuple(faces.face_class(base) for base in original.__bases__ if base not in _EMPTY)
    namespace: dict[str, object] = {
        "__slots__": (),
        "__module__": original.__module__,
        "__qualname__": original.__qualname__,
        "__doc__": original.__doc__,
    }
    namespace.update(members_of(faces, original))
    namespace["__face__"] = Generated(faces, original)
    generated: Any = FaceType(original.__name__, bases or (Face,), namespace)
    return cast("type[Face]", generated)


def refuse_pickling(face: object) -> NoReturn:
    """A face is worth nothing without its loop."""
    raise TypeError(f"cannot pickle or copy {face!r}: it belongs to a loop in this process")
