"""Annotations, also those that are strings, and those that only a type checker can resolve."""

from __future__ import annotations

import builtins
import collections.abc
import typing
from collections.abc import Mapping
from typing import Any

__all__ = ["UNKNOWN", "resolved"]


class UNKNOWN:
    """What can't be resolved, and whatever is made of it."""

    def __getattr__(self, name: str) -> UNKNOWN:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, item: object) -> UNKNOWN:
        return self

    def __or__(self, other: object) -> Any:
        return typing.Union[self, other]  # noqa: UP007

    def __ror__(self, other: object) -> Any:
        return typing.Union[other, self]  # noqa: UP007

    def __call__(self) -> None:
        """`typing` takes what is callable for a type."""


class _Names(dict[str, Any]):
    """The names of a module, those that are usually imported for a type checker only, and the unknown."""

    def __missing__(self, name: str) -> Any:
        for module in (builtins, collections.abc, typing):
            if hasattr(module, name):
                return getattr(module, name)
        return UNKNOWN()


def resolved(annotation: Any, names: Mapping[str, Any]) -> Any:
    """What an annotation stands for in a module with these names."""
    if isinstance(annotation, typing.ForwardRef):
        annotation = annotation.__forward_arg__
    if not isinstance(annotation, str):
        return annotation
    try:
        # It runs no other code than the annotation would without its quotes.
        return eval(annotation, {}, _Names(names))
    except Exception:
        return UNKNOWN()
