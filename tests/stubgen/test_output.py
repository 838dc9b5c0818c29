"""What the command writes, as text."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from .command import FORMS, TARGETS, files, generate, stubgen


@pytest.mark.parametrize("form", FORMS)
def test_the_same_targets_give_the_same_bytes_whatever_their_order(
    everything: dict[str, Path], tmp_path: Path, form: str
) -> None:
    (tmp_path / f"__init__.{form}").touch()
    again = generate(tmp_path, form, *reversed(TARGETS), TARGETS[0], seed=2)
    assert len(again) == len({target.partition(":")[0] for target in TARGETS})
    assert again == files(everything[form])


@pytest.mark.skipif(not importlib.util.find_spec("ruff"), reason="ruff is installed for one CPython only")
def test_formatters_leave_the_files_as_they_are(everything: dict[str, Path]) -> None:
    done = subprocess.run(
        # Of redis, docstrings are indented strangely, and some types are too long for a line.
        [
            sys.executable,
            "-m",
            "ruff",
            "format",
            "--isolated",
            "--diff",
            "--exclude",
            "redis*",
            *everything.values(),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{2 * len(files(everything['py']))} files" in done.stderr


def test_without_a_directory_the_file_goes_to_stdout(tmp_path: Path) -> None:
    (text,) = generate(tmp_path, "pyi", "shop:Client").values()
    assert stubgen("shop:Client").stdout == text


def test_two_files_on_stdout_are_told_apart() -> None:
    done = stubgen("shop._repository:Repository", "shop:connect")
    assert [line for line in done.stdout.splitlines() if line.startswith("# shop")] == [
        "# shop_sync.pyi",
        "# shop__repository_sync.pyi",
    ]


def test_imports_are_sorted_and_every_one_is_used(everything: dict[str, Path]) -> None:
    for name, text in files(everything["pyi"]).items():
        tree = ast.parse(text)
        imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
        names = [alias.asname or alias.name for node in imports for alias in node.names]
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert len(names) == len(set(names)), name
        assert set(names) <= used, name
        assert sorted(imports, key=lambda node: node.level) == imports, (
            name
        )  # those of the same package come last
        assert all(node.names == sorted(node.names, key=lambda alias: alias.name) for node in imports), name


def test_docstrings_are_kept_in_the_module_and_not_in_the_stub(tmp_path: Path) -> None:
    (stub,) = generate(tmp_path, "pyi", "shop._client:Items").values()
    assert "The object of a key" not in stub
    module = generate(tmp_path, "py", "shop._client:Items")["shop__client_sync.py"]
    (guarded,) = (node for node in ast.parse(module).body if isinstance(node, ast.If))
    repository = next(
        node for node in ast.walk(guarded) if isinstance(node, ast.ClassDef) and node.name == "Repository"
    )
    assert ast.get_docstring(repository) == "Keeps objects."
    get = next(node for node in repository.body if isinstance(node, ast.FunctionDef) and node.name == "get")
    assert ast.get_docstring(get) == (
        'The object of a key.\n\nRaises `KeyError` if there is "none", or a back\\slash.'
    )


def test_a_subclass_has_the_face_of_its_base_for_a_base(tmp_path: Path) -> None:
    text = "".join(generate(tmp_path, "pyi", "shop._client:SpecialClient", "shop._client:Items").values())
    assert "class SpecialClient(Client):" in text
    assert "class Items(Repository[Item]):" in text


def test_defaults_are_kept_where_they_are_short_and_plain(tmp_path: Path) -> None:
    text = "".join(generate(tmp_path, "pyi", "shop._client:Items", "shop._client:Client").values())
    assert "limit: int = -1" in text
    assert "port: int = 80" in text
    assert "order: Order = ..." in text


def test_what_has_no_known_type_is_incomplete_and_told_on_stderr(tmp_path: Path) -> None:
    done = stubgen("shop:Client", "--output", tmp_path)
    text = (tmp_path / "shop_sync.pyi").read_text()
    assert "from _typeshed import Incomplete" in text
    assert "def untyped(self, value: Incomplete, other: Incomplete = None) -> Incomplete: ..." in text
    assert "def unknown(self, thing: Incomplete) -> int: ..." in text
    assert done.stderr.splitlines() == [
        "stubgen: shop._client.Client.untyped: no known type for value, other, its result",
        "stubgen: shop._client.Client.unknown: no known type for NoSuchName",
    ]


def test_a_class_made_at_run_time_has_the_methods_it_has_then(tmp_path: Path) -> None:
    """asyncpg's connection proxy gets its methods from a metaclass, with the sources of another class."""
    text = "".join(generate(tmp_path, "pyi", "asyncpg.pool:PoolConnectionProxy").values())
    assert "def fetchval(" in text
    (execute,) = (node for node in ast.walk(ast.parse(text)) if getattr(node, "name", None) == "execute")
    assert ast.unparse(execute) == (
        "def execute(self, query: str, *args: Incomplete, timeout: float | None=None) -> str:\n    ..."
    )


def test_a_class_without_any_source_has_what_can_be_seen_of_it(tmp_path: Path) -> None:
    text = "".join(generate(tmp_path, "pyi", "asyncio:Lock").values())
    assert "def acquire(self) -> Incomplete: ..." in text
    assert "def __enter__(self) -> Incomplete: ..." in text
    assert "__aenter__" not in text


def test_a_method_of_the_class_is_not_replaced_by_the_result_of_awaiting(tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text(
        "from typing import Any, Generator\n"
        "class Job:\n"
        "    def result(self) -> int: ...\n"
        "    def __await__(self) -> Generator[Any, Any, str]: ...\n"
        "    async def __aenter__(self) -> str: ...\n"
        "    async def __aexit__(self, *args: object) -> None: ...\n"
    )
    lines = stubgen("jobs:Job", path=tmp_path).stdout.splitlines()
    assert [line for line in lines if "result" in line] == ["    def result(self) -> int: ..."]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type parameters are syntax of CPython 3.12")
def test_type_parameters_stay_type_parameters(tmp_path: Path) -> None:
    (tmp_path / "modern.py").write_text(
        "from __future__ import annotations\n"
        "from collections.abc import Awaitable, Callable\n"
        "type Handler[T] = Callable[[T], Awaitable[T]]\n"
        "class Box[T: (int, str), *Ts, **P]:\n"
        "    async def get[K](self, key: K, handler: Handler[K]) -> tuple[T, K]: ...\n"
        "    async def rest(self, *rest: *Ts) -> tuple[*Ts]: ...\n"
        "    async def call(self, *args: P.args, **kwargs: P.kwargs) -> Box[T, *Ts, P]: ...\n"
    )
    done = stubgen("modern:Box", path=tmp_path)
    assert done.returncode == 0, done.stderr
    for line in (
        "class Box[T: (int, str), *Ts, **P]:",
        "    aio: _Aio[_Box[T, *Ts, P]]",
        "    def rest(self, *rest: *Ts) -> tuple[*Ts]: ...",
        "    def call(self, *args: P.args, **kwargs: P.kwargs) -> Box[T, *Ts, P]: ...",
        "        handler: Callable[[K], Awaitable[K] | K],",
        "    ) -> tuple[T, K]: ...",
    ):
        assert line in done.stdout.splitlines()
    assert not done.stderr


def test_importing_the_package_does_not_import_the_generator() -> None:
    code = "import asyncio_thread_loop, sys; print([name for name in sys.modules if 'stubgen' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
