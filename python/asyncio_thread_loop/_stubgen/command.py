"""The subcommand: reads the targets, then writes all files, or none."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
import tempfile
from pathlib import Path

from .errors import StubgenError
from .generating import generate

__all__ = ["add_arguments", "run"]

_DESCRIPTION = """\
Write the types of the synchronous faces that loop.to_sync() makes of async classes and functions, for type checkers
and editors. Whatever an async class in them returns in turn is included. The targets are imported.

The file of the target PACKAGE.MODULE is PACKAGE_MODULE_sync.pyi. Types that can't be found out are written as
Incomplete, which means Any, and told on stderr.
"""

_EPILOG = """\
examples:
  python -m asyncio_thread_loop stubgen httpx:AsyncClient --output typings
  python -m asyncio_thread_loop stubgen --format py myapp.storage --output src/myapp/sync
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "targets",
        nargs="+",
        metavar="PACKAGE.MODULE[:Class]",
        help="what is async in a module's __all__, or without one in what the module defines and makes public; or one "
        "class or function",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help="write the files into this directory, which is made if need be; without it they go to stdout",
    )
    parser.add_argument(
        "--format",
        choices=["pyi", "py"],
        default="pyi",
        help="pyi: stubs, which hold types only (default); py: modules to import, with classes on the default loop",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Returns the exit code: 0, or 2 after a message on stderr, with nothing written."""
    directory: Path | None = arguments.output
    notes: dict[str, None] = {}
    try:
        if directory is not None and directory.exists() and not directory.is_dir():
            raise StubgenError(f"{directory} exists and is not a directory")
        # What the targets print when they are imported is not for the file.
        with contextlib.redirect_stdout(sys.stderr):
            files = generate(
                arguments.targets,
                arguments.format,
                relative=directory is not None and _is_package(directory),
                command=_command(arguments),
                report=notes.setdefault,
            )
        for note in notes:
            print(f"stubgen: {note}", file=sys.stderr)
        if directory is not None:
            _write(directory, files)
        for name, content in files.items() if directory is None else ():
            print(content if len(files) == 1 else f"# {name}\n{content}\n", end="")
    except StubgenError as error:
        print(f"stubgen: error: {error}", file=sys.stderr)
        return 2
    return 0


def _is_package(directory: Path) -> bool:
    return any((directory / f"__init__{suffix}").exists() for suffix in (".py", ".pyi"))


def _command(arguments: argparse.Namespace) -> str:
    words = ["python", "-m", "asyncio_thread_loop", "stubgen"]
    if arguments.format != "pyi":
        words += ["--format", arguments.format]
    return shlex.join([*words, *sorted(set(arguments.targets))])


def _write(directory: Path, files: dict[str, str]) -> None:
    """Puts whole files in place, once all of them could be written."""
    ready: dict[Path, Path] = {}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            if (directory / name).is_dir():
                raise StubgenError(f"{directory / name} is a directory")
            with tempfile.NamedTemporaryFile(
                "w", encoding="utf-8", dir=directory, prefix=f".{name}.", delete=False
            ) as file:
                ready[Path(file.name)] = directory / name
                file.write(content)
            os.chmod(file.name, 0o666 & ~_umask())
        for temporary, final in ready.items():
            temporary.replace(final)
    except OSError as error:
        raise StubgenError(f"{directory}: {error.strerror or error}") from error
    finally:
        for temporary in ready:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    """The mask that files are made with; temporary ones are private."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
