"""How a function is found again, although bound methods are made anew at every access."""

from __future__ import annotations

import types
from typing import Any

__all__ = ["address"]


def address(function: Any) -> tuple[int, int]:
    """Equal for equal functions, and almost always different for others.

    It holds as long as the function is alive, or an equal one.
    """
    if isinstance(function, types.MethodType):
        return id(function.__self__), id(function.__func__)
    if isinstance(function, (types.BuiltinMethodType, types.MethodWrapperType)):
        return id(function.__self__), hash(function.__name__) & 0xFFFF_FFFF
    return id(function), 0
