"""The modules that are read: found without being run, parsed once, their names traced to where they are defined.

A module is read as a type checker reads it: a stub is preferred to the source beside it, `TYPE_CHECKING` holds, and
`sys.version_info` and `sys.platform` are those of the interpreter that runs. What a name means is answered by
following imports, star imports and re-exports to the definition. The standard library isn't followed: its names are
well known, and its sources have no annotations.
"""

from __future__ import annotations

import ast
import builtins
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from .statements import defined_names, statements

__all__ = ["Definition", "Module", "Sources", "Symbol", "is_standard"]


class Symbol(NamedTuple):
    """Where something is defined: a module and the qualified name in it."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Import(NamedTuple):
    """A name bound by an import: to a module, or with `name` to something in it."""

    module: str
    name: str | None


#: What binds a name: an import, or the statements that define it (several for overloads and properties).
Binding = Import | list[ast.stmt]


@dataclass
class Definition:
    """The statements that define a name, and the module they stand in."""

    symbol: Symbol
    module: Module
    nodes: list[ast.stmt]

    @property
    def class_node(self) -> ast.ClassDef | None:
        node = self.nodes[-1]
        return node if isinstance(node, ast.ClassDef) else None


@dataclass
class Module:
    name: str
    tree: ast.Module
    is_package: bool
    is_stub: bool
    bindings: dict[str, Binding] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for statement in statements(self.tree.body):
            if isinstance(statement, ast.Import):
                for alias in statement.names:
                    bound = alias.asname or alias.name.partition(".")[0]
                    self.bindings.setdefault(bound, Import(alias.name if alias.asname else bound, None))
            elif isinstance(statement, ast.ImportFrom):
                module = self._absolute(statement)
                for alias in statement.names:
                    if alias.name == "*":
                        self.stars.append(module)
                    else:
                        self.bindings.setdefault(alias.asname or alias.name, Import(module, alias.name))
            else:
                for name in defined_names(statement):
                    binding = self.bindings.setdefault(name, [])
                    if isinstance(binding, list):
                        binding.append(statement)

    def _absolute(self, statement: ast.ImportFrom) -> str:
        if not statement.level:
            return statement.module or ""
        parts = self.name.split(".")
        parts = parts[: len(parts) - statement.level + self.is_package]
        return ".".join([*parts, statement.module] if statement.module else parts)

    @property
    def exported(self) -> list[str] | None:
        """`__all__`, where it is written out as a list or tuple of strings."""
        binding = self.bindings.get("__all__")
        if not isinstance(binding, list):
            return None
        names: list[str] = []
        for node in binding:
            value = getattr(node, "value", None)
            if not isinstance(value, ast.List | ast.Tuple):
                return None
            names += [
                item.value
                for item in value.elts
                if isinstance(item, ast.Constant) and isinstance(item.value, str)
            ]
        return names


class Sources:
    """Every module read so far."""

    def __init__(self) -> None:
        self._modules: dict[str, Module | None] = {}

    def module(self, name: str) -> Module | None:
        """None for the standard library, for what isn't found, and for what has neither source nor stub."""
        if name not in self._modules:
            self._modules[name] = None  # while it is being read
            self._modules[name] = None if is_standard(name) else self._read(name)
        return self._modules[name]

    def resolve(self, module: Module, dotted: Sequence[str]) -> Symbol | None:
        """What a dotted name means in a module; None if it means nothing there."""
        return self._resolve(module, tuple(dotted), frozenset())

    def definition(self, symbol: Symbol) -> Definition | None:
        """The statements behind a symbol, if there is a source for them."""
        module = self.module(symbol.module)
        if module is None:
            return None
        first, *rest = symbol.name.split(".")
        binding = module.bindings.get(first)
        if not isinstance(binding, list):
            return None
        nodes = binding
        for name in rest:
            owner = nodes[-1]
            if not isinstance(owner, ast.ClassDef):
                return None
            nodes = [node for node in statements(owner.body) if name in defined_names(node)]
            if not nodes:
                return None
        return Definition(symbol, module, nodes)

    def _resolve(self, module: Module, dotted: tuple[str, ...], seen: frozenset[object]) -> Symbol | None:
        key = (module.name, dotted)
        if key in seen:
            return None
        seen |= {key}
        first, *rest = dotted
        binding = module.bindings.get(first)
        if isinstance(binding, list):
            return Symbol(module.name, ".".join(dotted))
        if isinstance(binding, Import):
            path = rest if binding.name is None else [binding.name, *rest]
            return self._in_module(binding.module, tuple(path), seen)
        for star in module.stars:
            starred = self.module(star)
            if starred is None:
                continue
            exported = starred.exported
            if first in exported if exported is not None else not first.startswith("_"):
                found = self._resolve(starred, dotted, seen)
                if found is not None and found.module != "builtins":
                    return found
        if module.is_package and rest and self._find(f"{module.name}.{first}"):
            return self._in_module(f"{module.name}.{first}", tuple(rest), seen)
        return Symbol("builtins", ".".join(dotted)) if hasattr(builtins, first) else None

    def _in_module(self, name: str, dotted: tuple[str, ...], seen: frozenset[object]) -> Symbol | None:
        if not dotted:
            return None  # a module is no type
        if is_standard(name):
            *parts, last = dotted
            while parts and importlib.util.find_spec(name) and _is_module(f"{name}.{parts[0]}"):
                name = f"{name}.{parts.pop(0)}"
            return Symbol(name, ".".join([*parts, last]))
        module = self.module(name)
        if module is None:
            if len(dotted) > 1 and self._find(f"{name}.{dotted[0]}"):
                return self._in_module(f"{name}.{dotted[0]}", dotted[1:], seen)
            return Symbol(name, ".".join(dotted))
        found = self._resolve(module, dotted, seen)
        if (found is None or found.module == "builtins") and len(dotted) > 1:
            return self._in_module(f"{name}.{dotted[0]}", dotted[1:], seen)
        return None if found is not None and found.module == "builtins" else found

    def _read(self, name: str) -> Module | None:
        path = self._find(name)
        if path is None:
            return None
        try:
            tree = ast.parse(path.read_bytes(), str(path))
        except (OSError, SyntaxError, ValueError):
            return None
        return Module(name, tree, path.stem == "__init__", path.suffix == ".pyi")

    def _find(self, name: str) -> Path | None:
        """The file that tells the types of a module."""
        top, *rest = name.split(".")
        for entry in sys.path:
            stubs = Path(entry or ".", f"{top}-stubs", *rest)
            for candidate in (stubs / "__init__.pyi", stubs.with_suffix(".pyi") if rest else None):
                if candidate is not None and candidate.is_file():
                    return candidate
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError, AttributeError):
            return None
        if spec is None or spec.origin is None:
            return None
        origin = Path(spec.origin)
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            if origin.name.endswith(suffix):
                origin = origin.with_name(origin.name.removesuffix(suffix) + ".py")
                break
        for candidate in (origin.with_suffix(".pyi"), origin):
            if candidate.suffix in (".py", ".pyi") and candidate.is_file():
                return candidate
        return None


def is_standard(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names or module.partition(".")[0] in (
        "_typeshed",
        "typing_extensions",
    )


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
