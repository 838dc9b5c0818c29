"""What is right passes the type checkers, and what is marked as wrong is found."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "use_to_sync.py"

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not all(importlib.util.find_spec(checker) for checker in ("mypy", "pyright")),
        reason="mypy and pyright are installed for one CPython only: their answers are the same",
    ),
]


def check(folder, *command):
    shutil.copy(PROGRAM, folder)
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy_finds_what_is_wrong_and_nothing_else(tmp_path):
    check(tmp_path, "mypy", "--strict", "--cache-dir", os.devnull, PROGRAM.name)


def test_pyright_finds_what_is_wrong_and_nothing_else(tmp_path):
    # mypy's marks are none for it.
    settings = {
        "typeCheckingMode": "standard",
        "enableTypeIgnoreComments": False,
        "reportUnnecessaryTypeIgnoreComment": True,
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    check(tmp_path, "pyright", "--pythonpath", sys.executable)
