"""What the command line names: a module, or classes and functions of it."""

from __future__ import annotations

import importlib
import inspect
import re
from dataclasses import dataclass
from typing import Any

from .errors import StubgenError

__all__ = ["Target", "load"]

_SYNTAX = re.compile(r"(?P<module>\w+(\.\w+)*)(:(?P<name>\w+(\.\w+)*))?")


@dataclass(frozen=True)
class Target:
    """A class or a function, with the module it was asked for from."""

    module: str
    name: str
    value: Any
    #: False if it was found by looking through a whole module.
    is_named: bool

    @property
    def is_class(self) -> bool:
        return isinstance(self.value, type)


def load(wanted: str) -> list[Target]:
    """The targets of one argument. Imports the module; raises `StubgenError` if there is no such thing."""
    matched = _SYNTAX.fullmatch(wanted)
    if matched is None:
        raise StubgenError(f"{wanted!r} is neither PACKAGE.MODULE nor PACKAGE.MODULE:Class")
    module = _imported(matched["module"])
    if matched["name"] is None:
        return _public(module, matched["module"])
    value: Any = module
    for part in matched["name"].split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            raise StubgenError(f"{matched['module']} has no {matched['name']}") from None
    if not isinstance(value, type) and not inspect.isroutine(value):
        raise StubgenError(f"{wanted} is not a class: {_short(value)}")
    return [Target(matched["module"], matched["name"], value, is_named=True)]


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(f"{missing}."):
            raise StubgenError(f"there is no module {missing}") from None
        raise StubgenError(f"importing {name} failed: {error}") from error
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise StubgenError(f"importing {name} failed: {type(error).__name__}: {error}") from error


def _public(module: Any, name: str) -> list[Target]:
    exported = getattr(module, "__all__", None)
    if exported is None:
        exported = [
            each
            for each, value in vars(module).items()
            if not each.startswith("_") and getattr(value, "__module__", None) == name
        ]
    found = [(each, getattr(module, each, None)) for each in exported]
    return [
        Target(name, each, value, is_named=False)
        for each, value in found
        if isinstance(value, type) or inspect.isroutine(value)
    ]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
