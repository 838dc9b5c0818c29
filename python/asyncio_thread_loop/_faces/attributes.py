"""The attributes of originals: read, written and deleted through a face.

Reading what is only stored runs none of the original's code, and is done where it is asked for. Whatever runs code (a
property, `__getattr__`, ...) does it on the loop's thread.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

from .._native import original_of
from .calls import delete, read, write
from .kinds import leaves_to_object

if TYPE_CHECKING:
    from .classes import Face
    from .faces import Faces

__all__ = ["delete_attribute", "is_known", "read_attribute", "write_attribute"]

_MISSING = object()


def read_attribute(faces: Faces, face: Face, name: str) -> Any:
    """An attribute of a face's original. Raises `AttributeError` if there is none."""
    original = original_of(face)
    cls = type(original)
    if leaves_to_object(cls, "__getattribute__"):
        member = _member(cls, name)
        if isinstance(member, types.MemberDescriptorType):
            return faces.present_attribute(getattr(original, name))
        if not _is_data_descriptor(member):
            stored = _namespace(original).get(name, _MISSING)
            if stored is _MISSING and not hasattr(type(member), "__get__"):
                stored = member
            if stored is not _MISSING:
                return faces.present_attribute(stored)
        if member is _MISSING and not hasattr(cls, "__getattr__"):
            raise AttributeError(
                f"{cls.__name__!r} object has no attribute {name!r}, so its face has none",
                name=name,
                obj=face,
            )
    return faces.present_attribute(faces.run(read(faces.enter(face), name)))


def write_attribute(faces: Faces, face: Face, name: str, value: object) -> None:
    """Sets an attribute of a face's original; a face becomes its original."""
    value = faces.unwrap(value)
    original = original_of(face)
    if leaves_to_object(type(original), "__setattr__") and not _runs_code(original, name):
        setattr(original, name, value)
    else:
        faces.run(write(faces.enter(face), name, value))


def delete_attribute(faces: Faces, face: Face, name: str) -> None:
    """Deletes an attribute of a face's original."""
    original = original_of(face)
    if leaves_to_object(type(original), "__delattr__") and not _runs_code(original, name):
        delattr(original, name)
    else:
        faces.run(delete(faces.enter(face), name))


def is_known(original: object, name: str) -> bool:
    """Whether an object has such an attribute of its own or of its class, without running its code."""
    return name in _namespace(original) or _member(type(original), name) is not _MISSING


def _member(cls: type, name: str) -> Any:
    for base in cls.__mro__:
        if name in vars(base):
            return vars(base)[name]
    return _MISSING


def _namespace(original: object) -> dict[str, Any]:
    try:
        namespace: dict[str, Any] = object.__getattribute__(original, "__dict__")
    except AttributeError:
        return {}
    return namespace


def _is_data_descriptor(member: object) -> bool:
    return hasattr(type(member), "__set__") or hasattr(type(member), "__delete__")


def _runs_code(original: object, name: str) -> bool:
    member = _member(type(original), name)
    return _is_data_descriptor(member) and not isinstance(member, types.MemberDescriptorType)
