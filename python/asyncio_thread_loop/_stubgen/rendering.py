"""The text of a file, laid out as common formatters do it: 88 columns, double quotes, magic commas."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator, Sequence
from typing import Literal

from .expressions import Reference, arguments, literal, text
from .layout import WIDTH, belong_together, brackets, docstring
from .model import Alias, Attribute, Callee, Face, Kind, Parameter, Unit
from .naming import Names
from .overloads import is_overload
from .sources import is_standard

__all__ = ["file_stem", "render"]

#: What checkers may object to in a file that says what its original says: an override that doesn't fit, for instance.
_MYPY = (
    "assignment",
    "import-not-found",
    "import-untyped",
    "misc",
    "overload-overlap",
    "override",
    "type-arg",
)
_PYRIGHT = (
    "reportIncompatibleMethodOverride",
    "reportIncompatibleVariableOverride",
    "reportOverlappingOverload",
)


def file_stem(module: str) -> str:
    """The name of a target module's file: one that never hides the package itself."""
    return f"{module.replace('.', '_')}_sync"


def render(unit: Unit, names: Names, form: Literal["pyi", "py"], *, command: str, relative: bool) -> str:
    """The file of a unit, its names assigned."""
    body = "\n".join(_Body(names, form, relative).lines(unit))
    if form == "py":
        body = "\n".join(
            ["if TYPE_CHECKING:", textwrap.indent(body, "    "), "else:", *_at_run_time(unit, names)]
        )
    return "\n".join([*_head(unit, names, form, command), body, ""])


def _head(unit: Unit, names: Names, form: Literal["pyi", "py"], command: str) -> Iterator[str]:
    if form == "pyi":
        yield f'"""Synchronous faces of what is async in `{unit.module}`: what `loop.to_sync` gives."""'
    else:
        yield f'"""Synchronous faces of what is async in `{unit.module}`, on the default loop.'
        yield ""
        yield "The first import of a name starts that loop. `loop.to_sync` gives any of these on another loop."
        yield '"""'
    yield ""
    yield f"# Written by `{command}`: run it again rather than edit this."
    yield "# ruff: noqa"
    yield f'# mypy: disable-error-code="{", ".join(_MYPY)}"'
    yield f"# pyright: {', '.join(f'{rule}=false' for rule in _PYRIGHT)}"
    yield ""
    if form == "py":
        yield "from __future__ import annotations"
        yield ""
        yield "from typing import TYPE_CHECKING"
        yield ""
        exported = sorted(
            {*(names.faces[symbol] for _, symbol in unit.targets), *(each.name for each in unit.functions)}
        )
        yield from brackets("__all__ = [", [literal(each) for each in exported], "]")
        yield ""


def _at_run_time(unit: Unit, names: Names) -> Iterator[str]:
    """Faces are made when they are asked for: importing the module starts nothing."""
    originals = {name.replace(".", "_"): (unit.module, name) for name, _ in unit.targets}
    originals |= {function.name: (unit.module, function.name) for function in unit.functions}
    for face in unit.faces:
        name = names.faces[face.original]
        if face.is_made and not name.startswith("_"):
            originals.setdefault(name, (face.original.module, face.original.name))
    yield "    _ORIGINALS = {"
    for name, (module, qualname) in sorted(originals.items()):
        yield from brackets(f'        "{name}": (', [f'"{module}"', f'"{qualname}"'], "),")
    yield "    }"
    yield textwrap.indent(_GETATTR, "    ").rstrip()


_GETATTR = """
def __getattr__(name):
    from importlib import import_module

    from asyncio_thread_loop import get_default_loop

    if name not in _ORIGINALS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, qualname = _ORIGINALS[name]
    original = import_module(module)
    for part in qualname.split("."):
        original = getattr(original, part)
    return get_default_loop().to_sync(original)

def __dir__():
    return sorted({*globals(), *_ORIGINALS})
"""


class _Body:
    def __init__(self, names: Names, form: Literal["pyi", "py"], relative: bool) -> None:
        self._names = names
        self._form = form
        self._relative = relative
        self._indent = 4 if form == "py" else 0

    def lines(self, unit: Unit) -> Iterator[str]:
        yield from self._imports()
        if unit.variables:
            yield ""
        for variable in unit.variables:
            local = self._names.variables[variable.symbol]
            args = [f'"{local}"', *map(_quoted, variable.args)]
            args += [f"{name}={_quoted(value)}" for name, value in variable.keywords]
            yield from brackets(f"{local} = {text(variable.maker)}(", args, ")", self._indent)
        for face in unit.faces:
            yield ""
            yield from self._face(face)
        for index, function in enumerate(unit.functions):
            previous = unit.functions[index - 1]
            if not (index and is_overload(previous) and previous.name == function.name):
                yield ""
            yield from self._callee(function, 0)

    def _imports(self) -> Iterator[str]:
        by_module: dict[str, list[str]] = {}
        if self._names.uses_builtins:
            yield "import builtins"
        for (module, name), local in sorted(self._names.imports.items()):
            if module.startswith("!"):
                module = f"{'.' if self._relative else ''}{file_stem(module[1:])}"
            by_module.setdefault(module, []).append(name if local == name else f"{name} as {local}")
        groups: list[list[str]] = [[], [], []]
        for module, imported in by_module.items():
            place = 2 if module.startswith(".") else 0 if is_standard(module) else 1
            line = f"from {module} import {', '.join(imported)}"
            fits = len(line) + self._indent <= WIDTH
            groups[place] += [line] if fits else brackets(f"from {module} import (", imported, ")", WIDTH)
        blank = self._names.uses_builtins and not groups[0]
        for group in groups:
            if group:
                if blank:
                    yield ""
                yield from group
                blank = True

    def _face(self, face: Face) -> Iterator[str]:
        start = f"class {self._names.faces[face.original]}{self._type_parameters(face.type_parameters)}"
        if face.bases:
            yield from brackets(f"{start}(", [self._base(base) for base in face.bases], "):", self._indent)
        else:
            yield f"{start}:"
        previous: list[str] = []
        if self._form == "py" and face.doc:
            previous = list(docstring(face.doc, 4))
            yield from previous
        for member in face.members:
            match member:
                case Callee():
                    lines = list(self._callee(member, 4))
                case Attribute():
                    lines = [f"    {member.name}: {text(member.annotation)}"]
                case Alias():
                    lines = [f"    {member.name} = {text(member.value)}"]
            if self._form == "py" and previous and not belong_together(previous, lines):
                yield ""
            yield from lines
            previous = lines
        if not face.members:
            yield "    ..."

    def _base(self, base: ast.expr) -> str:
        # Unlike an annotation of a module it is evaluated where it stands.
        if self._form == "py" and isinstance(base, ast.Subscript):
            return f"{text(base.value)}[{', '.join(map(_quoted, arguments(base)))}]"
        return text(base)

    def _callee(self, callee: Callee, indent: int) -> Iterator[str]:
        pad = " " * indent
        for decorator in callee.decorators:
            yield f"{pad}@{text(decorator)}"
        has_doc = self._form == "py" and not is_overload(callee)
        doc = list(docstring(callee.doc, indent + 4)) if has_doc else []
        start = f"{pad}def {callee.name}{self._type_parameters(callee.type_parameters)}("
        returns = f") -> {text(callee.returns)}:" if callee.returns is not None else "):"
        ending = returns if doc else f"{returns} ..."
        yield from brackets(start, list(self._parameters(callee.parameters)), ending, self._indent)
        yield from doc
        if doc:
            yield f"{pad}    ..."

    def _parameters(self, parameters: Sequence[Parameter]) -> Iterator[str]:
        previous: Kind | None = None
        for parameter in parameters:
            if previous is Kind.POSITIONAL_ONLY and parameter.kind is not Kind.POSITIONAL_ONLY:
                yield "/"
            if parameter.kind is Kind.KEYWORD_ONLY and previous not in (
                Kind.KEYWORD_ONLY,
                Kind.VAR_POSITIONAL,
            ):
                yield "*"
            previous = parameter.kind
            stars = {Kind.VAR_POSITIONAL: "*", Kind.VAR_KEYWORD: "**"}.get(parameter.kind, "")
            annotation = "" if parameter.annotation is None else f": {text(parameter.annotation)}"
            default = ""
            if parameter.default is not None:
                default = f" = {parameter.default}" if annotation else f"={parameter.default}"
            yield f"{stars}{parameter.name}{annotation}{default}"
        if previous is Kind.POSITIONAL_ONLY:
            yield "/"

    def _type_parameters(self, parameters: Sequence[ast.AST]) -> str:
        return f"[{', '.join(map(_type_parameter, parameters))}]" if parameters else ""


def _quoted(expression: ast.expr) -> str:
    """As a string where it names a face: that is defined further down."""
    is_forward = any(isinstance(node, Reference) and node.face for node in ast.walk(expression))
    return literal(text(expression)) if is_forward else text(expression)


def _type_parameter(node: ast.AST) -> str:
    stars = {"TypeVarTuple": "*", "ParamSpec": "**"}.get(type(node).__name__, "")
    bound = getattr(node, "bound", None)
    default = getattr(node, "default_value", None)
    return (
        f"{stars}{getattr(node, 'name', '')}"
        f"{'' if bound is None else f': {text(bound)}'}"
        f"{'' if default is None else f' = {text(default)}'}"
    )
