"""How code is laid out, as common formatters do it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

__all__ = ["WIDTH", "belong_together", "brackets", "docstring"]

WIDTH = 88


def brackets(start: str, items: Sequence[str], end: str, indent: int = 0) -> Iterator[str]:
    """On one line if it fits, else one item a line."""
    line = f"{start}{', '.join(items)}{end}"
    if len(line) + indent <= WIDTH or not items:
        yield line
        return
    pad = " " * (len(start) - len(start.lstrip()))
    yield start
    for item in items:
        line = f"{pad}    {item},"
        if len(line) + indent <= WIDTH:
            yield line
        else:
            yield from textwrap.indent("\n| ".join(_alternatives(item)), f"{pad}    ").split("\n")[:-1]
            yield f"{pad}    {'| ' if len(_alternatives(item)) > 1 else ''}{_alternatives(item)[-1]},"
    yield f"{pad}{end}"


def _alternatives(union: str) -> list[str]:
    """The parts of `a: A | B`, split outside of brackets."""
    parts = [""]
    depth = 0
    for word in union.split(" "):
        if word == "|" and not depth:
            parts.append("")
            continue
        depth += sum(word.count(each) for each in "[(") - sum(word.count(each) for each in "])")
        parts[-1] += f" {word}" if parts[-1] else word
    return parts


def docstring(doc: str | None, indent: int) -> Iterator[str]:
    """The lines of a docstring, none if there is none."""
    if not doc:
        return
    pad = " " * indent
    escaped = doc.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    if escaped.endswith('"'):
        escaped = escaped[:-1] + '\\"'
    lines = [f"{pad}{line}".rstrip() for line in f'"""{escaped}'.splitlines()]
    if len(lines) == 1:
        lines[0] += '"""'
    else:
        lines.append(f'{pad}"""')
    yield from lines


def belong_together(lines: Sequence[str], following: Sequence[str]) -> bool:
    """Whether formatters have no room between them: two attributes, or two functions without docstrings."""
    are_functions = [any(line.lstrip().startswith("def ") for line in each) for each in (lines, following)]
    has_doc = any(line.strip() == "..." or '"""' in line for line in (*lines, *following))
    return are_functions[0] == are_functions[1] and not has_doc
