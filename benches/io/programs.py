"""The processes of a run: servers and operations on a loop under test, and the load. None outlives the run."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from math import nan
from pathlib import Path
from typing import Self

from ..limits import EXAMPLES
from ..measuring import Took
from .cases import Case

#: Connections that send and wait at the same time. More datagrams don't fit into the buffer of a socket.
CONNECTIONS = {"tcp": 10, "unix": 10, "tls": 10, "once": 10, "udp": 5}

#: Requests before anything is measured: the first ones take longer.
WARM_UP = 100

#: Seconds after which a program that says nothing has failed.
PATIENCE = 60

LOAD = EXAMPLES / "load"


class Failed(Exception):
    """A program can't do what it was asked for."""

    def __init__(self, loop: str, reason: str) -> None:
        super().__init__(reason)
        self.loop = loop


class Program:
    """A process that answers a line with a line, and ends when its input does."""

    def __init__(self, loop: str, *command: str, cpu: int) -> None:
        self.loop = loop  # which is tested by it
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, bufsize=1
        )
        os.sched_setaffinity(self._process.pid, {cpu})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._errors.close()
        for stream in (self._process.stdin, self._process.stdout):
            stream.close()

    def ask(self, question: str) -> str:
        try:
            self._process.stdin.write(f"{question}\n")
        except BrokenPipeError:
            raise self.failed(self._last_words()) from None
        return self.listen()

    def listen(self) -> str:
        """The next line. It writes one only when it is asked, so nothing waits in a buffer."""
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        if not ready:
            raise self.failed(f"no answer within {PATIENCE} s")
        line = self._process.stdout.readline().strip()
        if not line:
            raise self.failed(self._last_words())
        return line

    def failed(self, reason: str) -> Failed:
        return Failed(self.loop, reason)

    def processor_time(self) -> float:
        """Seconds that its threads have run, in the kernel or not, to the nanosecond. Asked of one that is at rest."""
        # The clock of a process is numbered so: linux/posix-timers.h, CPUCLOCK_SCHED.
        return time.clock_gettime((~self._process.pid << 3) | 2)

    def rest(self) -> None:
        """Waits until it has nothing to do. While it goes on without a pause its clock stands still for others."""
        before = nan
        ends = time.monotonic() + PATIENCE
        while (now := self.processor_time()) != before:
            if time.monotonic() > ends:
                raise self.failed("it is never done")
            before = now
            time.sleep(0.005)

    def _last_words(self) -> str:
        self._process.kill()
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it ended with {code}"


class Programs:
    """Starts what a case needs, once for each loop, all on one processor."""

    def __init__(self, cpu: int) -> None:
        self._cpu = cpu
        self._stack = ExitStack()
        self._servers: dict[str, tuple[Program, dict[str, dict[str, str]]]] = {}
        self._operations: dict[str, Program] = {}

    def __enter__(self) -> Self:
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-io-")))
        self._certificate = self._folder / "certificate.pem"
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def way(self, case: Case, loop: str, stack: ExitStack) -> Requests | Operation:
        """What does the case on that loop. Raises `Failed` if it can't be done at all."""
        if case.load is None:
            return Operation(self._operation(loop), case.of)
        server, found = self._server(loop)
        if "missing" in found[case.of]:
            raise server.failed(found[case.of]["missing"])
        address = found[case.of]["address"]
        # Until a connection has been closed, CPython's `recv` gets its memory from the kernel each time, and gives it
        # back: glibc doesn't know yet that such sizes are usual.
        with self._load(loop, case, address) as first:
            Requests(server, first)(WARM_UP)
        return Requests(server, stack.enter_context(self._load(loop, case, address)))

    def forget(self, loop: str) -> None:
        """Starts anew what runs on that loop, when it is needed again."""
        for programs in (self._servers, self._operations):
            programs.pop(loop, None)

    def _operation(self, loop: str) -> Program:
        if loop not in self._operations:
            program = self._python("operations", loop)
            program.listen()
            self._operations[loop] = program
        return self._operations[loop]

    def _server(self, loop: str) -> tuple[Program, dict[str, dict[str, str]]]:
        if loop not in self._servers:
            if not self._certificate.exists():
                make_certificate(self._certificate)
            program = self._python("server", loop, str(self._certificate), str(self._folder))
            self._servers[loop] = program, json.loads(program.listen())
        return self._servers[loop]

    def _python(self, module: str, loop: str, *args: str) -> Program:
        command = [sys.executable, "-m", f"benches.io.{module}", loop, *args]
        return self._stack.enter_context(Program(loop, *command, cpu=self._cpu))

    def _load(self, loop: str, case: Case, address: str) -> Program:
        args = [address, str(CONNECTIONS[case.load]), str(case.size)]
        if case.load == "tls":
            command = [sys.executable, "-m", "benches.io.tls_load", str(self._certificate), *args]
        else:
            command = [str(LOAD), case.load, *args]
        return Program(loop, *command, cpu=self._cpu)


class Requests:
    """A server under load."""

    def __init__(self, server: Program, load: Program) -> None:
        self._server = server
        self._load = load
        #: The part of each turn that the load left to the server.
        self.shares: list[float] = []

    def __call__(self, requests: int) -> Took:
        """The seconds are those that the load left to the server: both share a processor."""
        before, load_before = self._server.processor_time(), self._load.processor_time()
        seconds = float(self._load.ask(str(requests)))
        self._server.rest()  # and so is the load, by then
        left = seconds - (self._load.processor_time() - load_before)
        self.shares.append(left / seconds)
        return Took(left, nan, nan, self._server.processor_time() - before)


class Operation:
    """Something a loop does by itself."""

    shares: tuple[()] = ()

    def __init__(self, program: Program, name: str) -> None:
        self._program = program
        self._name = name

    def __call__(self, repetitions: int) -> Took:
        answer = self._program.ask(f"{self._name} {repetitions}")
        if answer.startswith("failed"):
            raise self._program.failed(answer.removeprefix("failed "))
        seconds, processor = map(float, answer.split())
        return Took(seconds, nan, nan, processor)


def make_certificate(path: Path) -> None:
    """One for localhost, signed by itself, and its key in the same file."""
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", f"{path}", "-out", f"{path}.part"]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    part = path.with_name(f"{path.name}.part")
    path.write_text(path.read_text() + part.read_text())
