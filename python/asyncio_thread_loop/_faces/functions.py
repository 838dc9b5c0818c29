"""The faces of functions and methods. What they do when they are called is native."""

from __future__ import annotations

from inspect import Signature
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from .._native import FunctionCore, MethodCore
from .signatures import synchronous_signature

if TYPE_CHECKING:
    from .arguments import Parameters

__all__ = ["Method", "SyncFunction"]


class _Signature:
    """What `inspect.signature` takes for that of an instance; the class itself has another."""

    def __get__(self, function: FunctionCore[..., Any, Any] | MethodCore | None, owner: type) -> Signature:
        if function is None:
            raise AttributeError("__signature__")
        return synchronous_signature(function.aio)


P = ParamSpec("P")
T_co = TypeVar("T_co", covariant=True)
A_co = TypeVar("A_co", covariant=True)


class SyncFunction(FunctionCore[P, T_co, A_co]):
    """An asynchronous function as a synchronous one. Made by `AsyncioThreadLoop.to_sync`.

    Has the name, docstring and parameters of the asynchronous original, which is its `aio`. Calling it raises what the
    original raises, and otherwise as `evaluate` does.

    >>> async def double(number: int) -> int:
    ...     return 2 * number
    >>> with AsyncioThreadLoop() as loop:
    ...     double_now = loop.to_sync(double)
    ...     double_now(21), double_now.__name__, double_now.aio is double
    (42, 'double', True)
    """

    __signature__: _Signature = _Signature()
    parameters: Parameters | None = None


class Method(MethodCore):
    """A method in the class of a face."""

    __signature__: _Signature = _Signature()
    parameters: Parameters | None = None


SyncFunction.__module__ = "asyncio_thread_loop"
