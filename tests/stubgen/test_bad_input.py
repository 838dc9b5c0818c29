"""Bad requests: a clear message, exit code 2, and nothing written."""

from pathlib import Path

import pytest

from .command import stubgen


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_package", "there is no module no_such_package"),
        ("shop.nothing:Client", "there is no module shop.nothing"),
        ("shop:Nobody", "shop has no Nobody"),
        ("shop:Client.Nobody", "shop has no Client.Nobody"),
        ("shop._repository:Key", "shop._repository:Key is not a class: int | str"),
        ("shop.money:Price", "shop.money:Price has nothing asynchronous"),
        ("shop._client:not_async", "shop._client:not_async has nothing asynchronous"),
        ("shop.money", "shop.money has nothing asynchronous among its public names"),
        ("shop:", "'shop:' is neither PACKAGE.MODULE nor PACKAGE.MODULE:Class"),
        ("shop/client.py", "'shop/client.py' is neither PACKAGE.MODULE nor PACKAGE.MODULE:Class"),
    ],
)
def test_a_target_that_is_none_is_refused(tmp_path: Path, target: str, message: str) -> None:
    output = tmp_path / "output"
    done = stubgen("shop", target, "--output", output)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"stubgen: error: {message}"
    assert not done.stdout
    assert not output.exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("1 / 0", "importing broken failed: ZeroDivisionError: division by zero"),
        ("import no_such_package", "importing broken failed: No module named 'no_such_package'"),
        ("raise SystemExit(3)", "importing broken failed: SystemExit: 3"),
        ("def", "importing broken failed: SyntaxError: invalid syntax (broken.py, line 1)"),
    ],
)
def test_a_module_that_fails_to_import_is_refused(tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / "broken.py").write_text(source)
    done = stubgen("broken:Client", path=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"stubgen: error: {message}\n"


def test_what_a_module_prints_does_not_get_into_the_file(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text("print('hello')\nasync def work() -> int: return 1\n")
    done = stubgen("loud", path=tmp_path)
    assert done.returncode == 0
    assert "hello" not in done.stdout
    assert "hello" in done.stderr


def test_output_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    done = stubgen("shop", "--output", file)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"stubgen: error: {file} exists and is not a directory\n"
    assert file.read_text() == "precious"


def test_output_inside_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = stubgen("shop", "--output", tmp_path / "file" / "output")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"stubgen: error: {tmp_path / 'file' / 'output'}: ")


def test_when_one_file_cannot_be_put_in_place_none_is_left_half_written(tmp_path: Path) -> None:
    (tmp_path / "shop__client_sync.pyi").mkdir()  # in the way of the second
    done = stubgen("shop", "shop._client:Cart", "--output", tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("stubgen: error: ")
    assert [each.name for each in tmp_path.iterdir()] == ["shop__client_sync.pyi"]


def test_two_modules_with_the_same_file_are_refused(tmp_path: Path) -> None:
    for name in ("one_two.py", "one/two.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("async def work() -> int: return 1\n")
    done = stubgen("one_two", "one.two", path=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "stubgen: error: one.two and one_two would both be written to one_two_sync.pyi"
    )


def test_no_target_at_all_shows_the_usage() -> None:
    done = stubgen()
    assert done.returncode == 2
    assert "usage: python -m asyncio_thread_loop stubgen" in done.stderr


def test_help_tells_what_a_target_is_and_shows_an_example() -> None:
    done = stubgen("--help")
    assert done.returncode == 0
    assert "PACKAGE.MODULE[:Class]" in done.stdout
    assert "python -m asyncio_thread_loop stubgen httpx:AsyncClient --output typings" in done.stdout
