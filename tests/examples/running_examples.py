"""Runs the examples as a user would: as processes, with the installed package.

Whatever they print is looked through: an example that leaves a coroutine, a task or a session
behind fails its test.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

EXAMPLES = Path(__file__).parents[2] / "examples"
SECONDS = 60
LEFT_BEHIND = re.compile(
    r"never awaited|never retrieved|was destroyed but it is pending|[Uu]nclosed|ResourceWarning"
    r"|Exception ignored|Traceback|Fatal Python error"
)
READ_BY_EXAMPLES = re.compile(r"FLASK_|PG|OPENAI_|DATABASE_URL$|REDIS_URL$|.*_proxy$", re.IGNORECASE)
DIRECT = build_opener(ProxyHandler({}))  # whatever proxy the environment names

Answer = tuple[int, Any]


def run_example(name: str, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs `examples/<name>` to its end, which must be a good one."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *args],
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    assert_nothing_left_behind(done.stderr)
    return done


def serve_example(name: str, *args: str, **env: str) -> AbstractContextManager[str]:
    """Serves `examples/<name>` while the `with` block lasts; gives its address."""
    return serving([str(EXAMPLES / name), *args], env, end=signal.SIGTERM)


def serve_with_flask(name: str, **env: str) -> AbstractContextManager[str]:
    """The same through `flask run`, ended by Ctrl-C."""
    command = ["-m", "flask", "--app", str(EXAMPLES / name), "run", "--port", "0"]
    return serving(command, env, end=signal.SIGINT)


@contextmanager
def serving(command: list[str], env: dict[str, str], *, end: signal.Signals) -> Iterator[str]:
    """Runs a server; gives the first address it prints. It must end well on the signal `end`."""
    with running(command, env) as server:
        yield server.expect(r"http://[\d.]+:\d+(?=\s)")
        server.send_signal(end)


def running_example(name: str, *args: str, **env: str) -> AbstractContextManager[Running]:
    """Runs `examples/<name>` while the `with` block lasts, and then to its end, which must be a good one."""
    return running([str(EXAMPLES / name), *args], env)


@contextmanager
def running(command: list[str], env: dict[str, str]) -> Iterator[Running]:
    with subprocess.Popen(
        [sys.executable, *command],
        env=environment(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        program = Running(process)
        try:
            yield program
            process.wait(SECONDS)
        finally:
            process.kill()
            program.join()
            print(program.output)  # pytest shows it where a test fails
    assert process.returncode == 0, program.output
    assert_nothing_left_behind(program.output)


class Running:
    """A program while it runs. What it prints is read to the end: one whose pipe is full would stand still."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.stdout = ""
        #: With standard error.
        self.output = ""
        self._process = process
        self._expected = 0
        self._open = 2
        self._change = threading.Condition()
        self._readers = [
            threading.Thread(target=self._read, args=[pipe]) for pipe in (process.stdout, process.stderr)
        ]
        for reader in self._readers:
            reader.start()

    def expect(self, pattern: str) -> str:
        """Waits until it has printed this, after what was expected before; returns the match."""

        def found() -> re.Match[str] | None:
            return re.compile(pattern).search(self.output, self._expected)

        with self._change:
            self._change.wait_for(lambda: found() or not self._open, SECONDS)
            match = found()
            if match:
                self._expected = match.end()
                return match[0]
        if not self._open:
            self._process.wait(SECONDS)
        code = self._process.poll()
        raise AssertionError(f"exit code {code} before it printed {pattern!r}; it printed: {self.output}")

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def join(self) -> None:
        for reader in self._readers:
            reader.join()

    def _read(self, pipe: BufferedReader) -> None:
        while some := pipe.read1().decode(errors="replace"):
            with self._change:
                self.output += some
                if pipe is self._process.stdout:
                    self.stdout += some
                self._change.notify_all()
        with self._change:
            self._open -= 1
            self._change.notify_all()


def environment(extra: dict[str, str]) -> dict[str, str]:
    """Ours without what the examples and their libraries read, and with forgotten resources and crashes shown."""
    ours = {name: value for name, value in os.environ.items() if not READ_BY_EXAMPLES.match(name)}
    return {**ours, "PYTHONWARNINGS": "always::ResourceWarning", "PYTHONFAULTHANDLER": "1", **extra}


def assert_nothing_left_behind(stderr: str) -> None:
    assert not LEFT_BEHIND.search(stderr), stderr


def http(url: str, headers: dict[str, str] | None = None, form: dict[str, object] | None = None) -> Answer:
    """Status and JSON body of a GET, or of a POST where a form is given. A failure is an answer."""
    data = None if form is None else urlencode(form).encode()
    try:
        with DIRECT.open(Request(url, data, headers or {}), timeout=SECONDS) as response:
            return response.status, json.load(response)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)
