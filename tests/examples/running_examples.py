"""Runs the examples as a user would: as processes, with the installed package.

Whatever they print is looked through: an example that leaves a coroutine, a task or a session
behind fails its test.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, suppress
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
    output: list[str] = []
    address: Future[str] = Future()

    def read(lines: Iterable[str]) -> None:
        """Reads to the end: a server whose pipe is full would stand still."""
        for line in lines:
            output.append(line)
            if not address.done() and (found := re.search(r"http://[\d.]+:\d+", line)):
                address.set_result(found[0])
        if not address.done():
            with suppress(subprocess.TimeoutExpired):
                server.wait(SECONDS)
            failure = (
                f"exit code {server.returncode} before it printed an address; it printed: {''.join(output)}"
            )
            address.set_exception(AssertionError(failure))

    with subprocess.Popen(
        [sys.executable, *command],
        env=environment(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        assert server.stdout is not None
        reader = threading.Thread(target=read, args=[server.stdout])
        reader.start()
        try:
            yield address.result(SECONDS)
            server.send_signal(end)
            server.wait(SECONDS)
        finally:
            server.kill()
            reader.join()
            print("".join(output))  # pytest shows it where a test fails
    assert server.returncode == 0, "".join(output)
    assert_nothing_left_behind("".join(output))


def environment(extra: dict[str, str]) -> dict[str, str]:
    """Ours without the variables the examples read, and with forgotten resources and crashes shown."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FLASK_", "PG")) and name != "DATABASE_URL"
    }
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
