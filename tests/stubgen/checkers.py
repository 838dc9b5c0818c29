"""Type checkers, run once over many programs, and what they find on each line."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from .command import PACKAGES

PROGRAMS = Path(__file__).parent / "programs"
CHECKERS = ("mypy", "pyright")

#: What is found in each file: the rules that are broken on each line, in order.
Findings = dict[str, dict[int, list[str]]]

_MYPY = re.compile(r"(?P<file>[^:]+):(?P<line>\d+): error: .*\[(?P<rule>[a-z-]+)\]")
_MARK = re.compile(r"# wrong: (?P<mypy>[\w -]+), (?P<pyright>[\w ]+)")


def are_installed() -> bool:
    return all(importlib.util.find_spec(checker) for checker in CHECKERS)


def lay_out(root: Path, faces: dict[str, Path]) -> None:
    """Both forms of the generated files, each with its own copy of the programs that use them."""
    for form, directory in faces.items():
        shutil.copytree(directory, root / directory.name)
        for program in PROGRAMS.glob("*.py"):
            text = program.read_text().replace("from faces.", f"from {directory.name}.")
            (root / f"{form}_{program.name}").write_text(text)


def run_mypy(root: Path) -> Findings:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", os.devnull, "."],
        cwd=root,
        env={**os.environ, "MYPYPATH": str(PACKAGES)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    findings: Findings = defaultdict(lambda: defaultdict(list))
    for line in done.stdout.splitlines():
        if found := _MYPY.fullmatch(line):
            findings[found["file"]][int(found["line"])].append(found["rule"])
    assert done.returncode in (0, 1) and not done.stderr, done.stdout + done.stderr
    return findings


def run_pyright(root: Path) -> Findings:
    (root / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(PACKAGES)], "include": ["."]}))
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=300,
    )
    findings: Findings = defaultdict(lambda: defaultdict(list))
    for found in json.loads(done.stdout)["generalDiagnostics"]:
        if found["severity"] == "error":
            file = str(Path(found["file"]).relative_to(root.resolve()))
            findings[file][found["range"]["start"]["line"] + 1].append(found["rule"])
    return findings


def expected(program: str, checker: str) -> dict[int, list[str]]:
    """What the comments in a program say is wrong."""
    return {
        number: mark[checker].split()
        for number, line in enumerate((PROGRAMS / program).read_text().splitlines(), 1)
        if (mark := _MARK.search(line))
    }
