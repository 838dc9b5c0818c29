"""Whether a plain function or class has to do with anything asynchronous, as far as can be seen without calling it.

`to_sync` asks, so that a slip (a function that nobody needs a face for) is an error at once. What matters are
factories: `asyncpg.create_pool` and `aiofiles.open` are plain functions without annotations, whose code names an
asynchronous class.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import types
import typing
from collections.abc import Iterator
from typing import Any, TypeVar, get_args, get_origin

from .annotations import UNKNOWN, resolved
from .kinds import Kind, has_async_members, is_async_function, kind_of

__all__ = ["gives_something_async", "has_something_async"]


def has_something_async(cls: type) -> bool:
    """Whether a class has an asynchronous member, or a method that gives something asynchronous."""
    if has_async_members(cls):
        return True
    members = (member for base in cls.__mro__ if base is not object for member in vars(base).values())
    return any(gives_something_async(member) for member in members)


def gives_something_async(function: Any) -> bool:
    """Whether a function is asynchronous, or its annotation or its code says that it may return what is."""
    if is_async_function(function):
        return True
    while isinstance(function, (functools.partial, functools.partialmethod)):
        function = function.func
    owner = type(getattr(function, "__self__", None))
    function = inspect.unwrap(getattr(function, "__func__", function))
    if not isinstance(function, types.FunctionType):
        return False
    annotation = resolved(function.__annotations__.get("return", Any), function.__globals__)
    if annotation is Any or isinstance(annotation, (TypeVar, UNKNOWN)):
        return any(map(_is_async, _named_in(function, owner)))
    return _is_async_type(annotation)


def _is_async_type(annotation: Any) -> bool:
    origin = get_origin(annotation) or annotation
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        return any(_is_async_type(each) for each in get_args(annotation))
    if isinstance(origin, TypeVar):
        return _is_async_type(origin.__bound__)
    return isinstance(origin, type) and kind_of(origin) not in (Kind.PLAIN, Kind.TUPLE, Kind.GENERATOR)


def _is_async(value: object) -> bool:
    return is_async_function(value) or _is_async_type(value) or _is_async_type(type(value))


def _named_in(function: types.FunctionType, owner: type) -> Iterator[Any]:
    """What a function encloses, and what its code names: globals, modules and what is in them, members of its owner."""
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # It may still be empty.
            yield cell.cell_contents
    names = function.__code__.co_names
    yield from (getattr(owner, name, None) for name in names)
    found = [function.__globals__.get(name, sys.modules.get(name)) for name in names]
    yield from found
    for _ in range(2):  # as in `package.module.Class`
        modules = [value for value in found if isinstance(value, types.ModuleType)]
        found = [vars(module).get(name) for module in modules for name in names]
        yield from found
