"""What the generated files mean to type checkers: programs that use them well pass, and every misuse is found."""

from pathlib import Path

import pytest

from .checkers import CHECKERS, PROGRAMS, Findings, are_installed, expected, lay_out, run_mypy, run_pyright
from .command import FORMS

pytestmark = pytest.mark.skipif(
    not are_installed(),
    reason="mypy and pyright are installed for one CPython only: their answers are the same",
)


@pytest.fixture(scope="session")
def findings(tmp_path_factory: pytest.TempPathFactory, everything: dict[str, Path]) -> dict[str, Findings]:
    """By checker. Each runs once, over everything."""
    root = tmp_path_factory.mktemp("checked")
    lay_out(root, everything)
    return {"mypy": run_mypy(root), "pyright": run_pyright(root)}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("checker", CHECKERS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("program", sorted(program.name for program in PROGRAMS.glob("*.py")))
def test_programs_are_found_wrong_where_they_are_and_nowhere_else(
    findings: dict[str, Findings], program: str, form: str, checker: str
) -> None:
    found = {line: sorted(set(rules)) for line, rules in findings[checker][f"{form}_{program}"].items()}
    wanted = {line: sorted(set(rules)) for line, rules in expected(program, checker).items()}
    assert wanted
    assert found == wanted


@pytest.mark.timeout(600)
@pytest.mark.parametrize("checker", CHECKERS)
@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_wrong_in_the_generated_files_themselves(
    findings: dict[str, Findings], form: str, checker: str
) -> None:
    assert {
        file: found for file, found in findings[checker].items() if file.startswith(f"faces_{form}/")
    } == {}


def test_programs_and_their_marks_cover_every_library() -> None:
    marked = {Path(program).stem: expected(program.name, "mypy") for program in PROGRAMS.glob("*.py")}
    assert all(marked.values())
    assert {name.removeprefix("use_") for name in marked} == {
        "aiofiles",
        "aiohttp",
        "anyio",
        "asyncpg",
        "httpx",
        "redis",
        "shop",
        "sqlalchemy",
        "websockets",
    }
