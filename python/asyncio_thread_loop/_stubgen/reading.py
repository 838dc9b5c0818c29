"""From the targets to the files' contents: which faces are needed, and in which file each goes."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence

from .._faces.kinds import is_async_function
from .aio import aio_descriptor
from .attributes import Attributes
from .classes import Classes
from .dynamic import Dynamic
from .errors import StubgenError
from .expressions import Reference
from .facing import Facing
from .functions import Functions
from .model import Alias, Callee, Face, Unit, Variable, nodes
from .scope import Scope
from .sources import Module, Sources, Symbol
from .statements import Function
from .targets import Target

__all__ = ["read"]


def read(targets: Sequence[Target], report: Callable[[str], None]) -> list[Unit]:
    """The files to write, one for each module that was named. `report` is told what has no known type.

    Raises `StubgenError` for a target that has nothing asynchronous.
    """
    return _Reading(targets, report).units()


class _Reading:
    def __init__(self, targets: Sequence[Target], report: Callable[[str], None]) -> None:
        self._sources = Sources()
        self._report = report
        self._scope = Scope(self._sources, Module("", ast.Module([], []), False, False), _nothing)
        probe = Facing(self._scope)
        self._targets: dict[Target, Symbol] = {}
        for target in targets:
            symbol = self._symbol(target, probe)
            if self._is_async(probe, target, symbol):
                self._targets[target] = symbol
            elif target.is_named:
                raise StubgenError(f"{target.module}:{target.name} has nothing asynchronous")
        for module in dict.fromkeys(target.module for target in targets):
            if all(target.module != module for target in self._targets):
                raise StubgenError(f"{module} has nothing asynchronous among its public names")
        classes = [symbol for target, symbol in self._targets.items() if target.is_class]
        self._facing = Facing(self._scope, list(dict.fromkeys(classes)))
        self._functions = Functions(self._facing, report)
        attributes = Attributes(self._facing, report)
        dynamic = Dynamic(self._scope, self._functions, report)
        self._classes = Classes(self._scope, self._functions, attributes, dynamic)

    def units(self) -> list[Unit]:
        units: dict[str, Unit] = {}
        home: dict[Symbol, str] = {}
        for target, symbol in self._targets.items():
            unit = units.setdefault(target.module, Unit(target.module, [], [], [], []))
            if target.is_class and home.setdefault(symbol, target.module) == target.module:
                unit.targets.append((target.name, symbol))
        faces: dict[Symbol, Face] = {}
        for unit in units.values():
            variables: dict[Symbol, Variable] = {}
            for target, symbol in self._targets.items():
                if target.module == unit.module and not target.is_class:
                    unit.functions += self._function(target, symbol)
            self._add_variables(variables, (each for callee in unit.functions for each in nodes(callee)))
            # A face asks for others: those of its bases, and of what its methods return.
            while missing := [
                symbol
                for symbol in self._facing.asked
                if symbol not in faces and home.setdefault(symbol, unit.module) == unit.module
            ]:
                for symbol in missing:
                    face = self._classes.face(symbol)
                    faces[symbol] = face
                    self._add_variables(variables, nodes(face))
            unit.variables = list(variables.values())
        for unit in units.values():
            own = [faces[symbol] for symbol, module in home.items() if module == unit.module]
            if own:
                variable, descriptor = aio_descriptor()
                unit.variables.insert(0, variable)
                unit.faces = [descriptor, *_bases_first(own)]
        return list(units.values())

    def _symbol(self, target: Target, facing: Facing) -> Symbol:
        """Where a target is defined."""
        module = self._sources.module(target.module)
        symbol = None if module is None else self._sources.resolve(module, target.name.split("."))
        if symbol is not None and self._sources.definition(symbol) is not None:
            alias = facing.aliased_class(symbol) if target.is_class else None
            return alias or symbol
        return Symbol(
            getattr(target.value, "__module__", None) or target.module,
            getattr(target.value, "__qualname__", target.name),
        )

    def _is_async(self, facing: Facing, target: Target, symbol: Symbol) -> bool:
        definition = self._sources.definition(symbol)
        if target.is_class:
            return facing.leads_to_async(symbol)
        nodes = (
            [] if definition is None else [node for node in definition.nodes if isinstance(node, Function)]
        )
        scope = self._scope if definition is None else self._scope.of(definition)
        return is_async_function(target.value) or facing.is_async_function(nodes, scope)

    def _function(self, target: Target, symbol: Symbol) -> list[Callee]:
        path = f"{target.module}.{target.name}"
        definition = self._sources.definition(symbol)
        found = (
            [] if definition is None else [node for node in definition.nodes if isinstance(node, Function)]
        )
        if definition is None or not found:
            return [self._functions.dynamic(target.value, target.name, path, "staticmethod")]
        return self._functions.method(found, self._scope.of(definition), path, as_name=target.name)

    def _add_variables(self, variables: dict[Symbol, Variable], expressions: Iterator[ast.AST]) -> None:
        for node in expressions:
            if not isinstance(node, Reference) or node.symbol in variables:
                continue
            found = self._facing.variable(node.symbol)
            definition = self._sources.definition(node.symbol)
            if found is None or definition is None:
                continue
            maker, call = found
            if any(keyword.arg == "default" for keyword in call.keywords):
                maker = Symbol("typing_extensions", maker.name)  # before 3.13 there is no other
            scope = self._scope.of(definition)
            turned = [self._facing.returned(scope.read(arg)) for arg in call.args[1:]]
            keywords = [
                (
                    keyword.arg,
                    keyword.value
                    if isinstance(keyword.value, ast.Constant) and not isinstance(keyword.value.value, str)
                    else self._facing.returned(scope.read(keyword.value)),
                )
                for keyword in call.keywords
                if keyword.arg is not None
            ]
            variable = Variable(node.symbol, Reference(maker), turned, keywords)
            variables[node.symbol] = variable
            self._add_variables(variables, nodes(variable))


def _bases_first(faces: list[Face]) -> list[Face]:
    """In the order given, but a class after its bases and after those inside it."""
    by_symbol = {face.original: face for face in faces}
    ordered: dict[Symbol, Face] = {}

    def add(face: Face) -> None:
        if face.original in ordered or face.original in visiting:
            return
        visiting.add(face.original)
        needed = [*face.bases, *(member.value for member in face.members if isinstance(member, Alias))]
        for expression in needed:
            for node in ast.walk(expression):
                if isinstance(node, Reference) and node.face and node.symbol in by_symbol:
                    add(by_symbol[node.symbol])
        ordered[face.original] = face

    visiting: set[Symbol] = set()
    for face in faces:
        add(face)
    return list(ordered.values())


def _nothing(text: str) -> None:
    pass
