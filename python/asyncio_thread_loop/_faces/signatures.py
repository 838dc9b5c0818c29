"""Signatures as a synchronous caller sees them."""

from __future__ import annotations

import collections.abc
import contextlib
import inspect
import types
from collections.abc import Callable
from typing import Any, get_args, get_origin

from .annotations import resolved

__all__ = ["synchronous_signature"]

_COUNTERPARTS: dict[Any, Any] = {
    collections.abc.AsyncIterator: collections.abc.Iterator,
    collections.abc.AsyncIterable: collections.abc.Iterable,
    contextlib.AbstractAsyncContextManager: contextlib.AbstractContextManager,
}

_AWAITABLES = (collections.abc.Awaitable, collections.abc.Coroutine)


def synchronous_signature(function: Callable[..., Any], is_bound: bool = False) -> inspect.Signature:
    """The signature of a function's face. Raises `AttributeError` if it has none."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise AttributeError(f"{function!r} has no signature") from error
    if is_bound:
        signature = signature.replace(parameters=list(signature.parameters.values())[1:])
    return signature.replace(return_annotation=_returned(function, signature.return_annotation))


def _returned(function: Callable[..., Any], given: Any) -> Any:
    annotation = resolved(given, getattr(inspect.unwrap(function), "__globals__", {}))
    adapted = _synchronous(annotation)
    return given if adapted is annotation else adapted


def _synchronous(annotation: Any) -> Any:
    origin, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if origin in _AWAITABLES:
        return arguments[-1] if arguments else Any
    if origin is collections.abc.AsyncGenerator:
        counterpart: Any = collections.abc.Generator
        return types.GenericAlias(counterpart, (*arguments, None)) if arguments else counterpart
    if isinstance(origin, collections.abc.Hashable) and origin in _COUNTERPARTS:
        counterpart = _COUNTERPARTS[origin]
        return types.GenericAlias(counterpart, arguments) if arguments else counterpart
    return annotation
