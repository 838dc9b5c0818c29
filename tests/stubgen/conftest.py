"""What the tests share: the files of everything there is to generate, made once."""

from pathlib import Path

import pytest

from .command import FORMS, TARGETS, generate


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By form, a package with the faces of all targets."""
    directories = {}
    for form in FORMS:
        directory = tmp_path_factory.mktemp("generated") / f"faces_{form}"
        directory.mkdir()
        (directory / f"__init__.{form}").touch()
        generate(directory, form, *TARGETS, seed=1)
        directories[form] = directory
    return directories
