"""A program in a process of its own, with all that it and its children print.

What takes longer than `WAIT`, or a `patience` of its own, is a hang: the whole process group shows its stacks, and the
test fails.
"""

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from http.client import RemoteDisconnected
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

from contract.harness import WAIT
from contract.process_group import ProcessGroup

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"

#: What a program prints that left something behind, or that ended otherwise than in good order.
DISORDER = re.compile(
    r"never awaited|never retrieved|was destroyed but it is pending|RuntimeWarning|Exception ignored|Traceback"
    r"|Fatal Python error|didn't end within"
)

_direct = build_opener(ProxyHandler({}))  # whatever proxy the environment names


class Program:
    """`python *arguments`, read line by line while it runs; standard error is read with standard output."""

    def __init__(self, *arguments, cwd, env=None, patience=WAIT):
        self._patience = patience
        self._command = [sys.executable, *map(str, arguments)]
        self._processes = ProcessGroup(
            self._command,
            cwd=cwd,
            env={
                # Where it runs by itself, pytest prints more.
                **{name: value for name, value in os.environ.items() if name not in ("CI", "BUILD_NUMBER")},
                "PYTHONFAULTHANDLER": "1",
                "PYTHONUNBUFFERED": "1",
                "PYTHONWARNINGS": "always::RuntimeWarning",
                "HOME": str(cwd),  # for what hosts keep there
                **(env or {}),
            },
            stderr=subprocess.STDOUT,
            errors="replace",
        )
        self._fresh = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="reader of a program", daemon=True)
        self._reader.start()
        self.lines = []

    @property
    def pid(self):
        return self._processes.pid

    @property
    def output(self):
        return "\n".join(self.lines)

    def found(self, pattern):
        """All matches in what has been printed until now: the group, where the pattern has one."""
        with contextlib.suppress(queue.Empty):
            while self._take(self._fresh.get_nowait()):
                pass
        return re.findall(pattern, self.output, re.MULTILINE)

    def expect(self, pattern, times=1):
        """Wait until the pattern was printed so many times; return the last match, as `found` does."""
        while len(matches := self.found(pattern)) < times:
            if not self._next_line():
                raise AssertionError(f"the program ended without {times} of {pattern!r}; {self}")
        return matches[times - 1]

    def send(self, number):
        self._processes.signal(number)

    def end(self, number=signal.SIGTERM):
        """Send a signal and `finish`."""
        self.send(number)
        return self.finish()

    def finish(self):
        """Wait until the program and all its children have ended; return the exit code."""
        while self._next_line():
            pass
        if (code := self._processes.wait(self._patience)) is None:
            self.fail_hanging()
        return code

    def assert_ended_well(self, number=None):
        """Ends, on that signal if one is given, with exit code 0 and nothing left behind."""
        code = self.finish() if number is None else self.end(number)
        assert code == 0, f"exit code {code}; {self}"
        assert not DISORDER.search(self.output), self

    def kill(self):
        self._processes.kill(WAIT)
        self._reader.join(WAIT)
        self._processes.stdout.close()
        self.found("")

    def _read(self):
        for line in self._processes.stdout:
            self._fresh.put(line.rstrip("\n"))
        self._fresh.put(None)

    def _next_line(self):
        try:
            return self._take(self._fresh.get(timeout=self._patience))
        except queue.Empty:
            self.fail_hanging()

    def _take(self, line):
        """Whether it is a line, as opposed to the end of all lines, which stays where it is."""
        if line is None:
            self._fresh.put(None)
            return False
        self.lines.append(line)
        return True

    def fail_hanging(self):
        """Fail the test with the stacks of all threads."""
        # faulthandler answers with the stack of every thread, in the children too.
        self._processes.signal_all(signal.SIGABRT)
        self._reader.join(WAIT)
        self.found("")
        raise AssertionError(f"the program hangs; {self}")

    def __repr__(self):
        return f"{self._command} printed:\n{self.output}"


def get(url, ask_again=True):
    """Status and JSON of a GET; what is no JSON is text. A failure is an answer.

    A server that recycles its workers may drop a connection: it is asked again.
    """
    ends = time.monotonic() + WAIT
    while True:
        try:
            with _direct.open(url, timeout=WAIT) as response:
                return response.status, _decoded(response.read())
        except HTTPError as error:
            with error:
                return error.code, _decoded(error.read())
        except (ConnectionResetError, RemoteDisconnected, URLError):
            if not ask_again or time.monotonic() > ends:
                raise


def _decoded(body):
    try:
        return json.loads(body)
    except ValueError:
        return body.decode()
