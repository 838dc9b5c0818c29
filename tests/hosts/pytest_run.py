"""pytest in a process of its own, over files that a test writes."""

import xml.etree.ElementTree as ElementTree
from collections import Counter

#: Seconds that it may be silent: on a busy machine, three processes of it take their time to import what they need.
PATIENCE = 60

SETTINGS = """\
[pytest]
asyncio_mode = strict
asyncio_default_fixture_loop_scope = function
markers = anyio
"""


class PytestRun:
    """One run, to its end: what it printed, its exit code, and what came of each test."""

    def __init__(self, program, folder, *options, files, settings=SETTINGS):
        for name, text in files.items():
            (folder / f"{name}.py").write_text(text)
        (folder / "pytest.ini").write_text(settings)
        command = [
            "-m",
            "pytest",
            "-W",
            "error",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            folder,
            "-c",
            "pytest.ini",
        ]
        # Every test's line is printed: a hang is one that says nothing for long.
        command += ["-v", "--junitxml=outcomes.xml", *options, folder]
        # Nor is a line cut off.
        self._running = program(*command, patience=PATIENCE, env={"COLUMNS": "400"})
        self.found = self._running.found
        self.code = self._running.finish()
        #: How many tests of a name passed, failed, or had an error before or after.
        self.outcomes = {"passed": Counter(), "failed": Counter(), "error": Counter()}
        kinds = {"failure": "failed", "error": "error"}
        for case in ElementTree.parse(folder / "outcomes.xml").iter("testcase"):
            for kind in [kinds[child.tag] for child in case if child.tag in kinds] or ["passed"]:
                self.outcomes[kind][case.get("name").partition("[")[0]] += 1

    def __repr__(self):
        return repr(self._running)
