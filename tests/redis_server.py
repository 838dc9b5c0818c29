"""A Redis server for the tests, from the program installed on the machine."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from installed import not_installed
from kept_port import kept_port

SECONDS = 60


@contextmanager
def redis_server() -> Iterator[Path]:
    """A Redis server of its own, which keeps nothing; gives the Unix socket that it listens on."""
    with running("--port", "0", "--unixsocket", "socket") as folder:
        yield folder / "socket"


@contextmanager
def redis_tls_server(certificate: Path) -> Iterator[int]:
    """Another one, with this certificate, in a file with its key; gives the port of 127.0.0.1 that it listens on."""
    own = ("--tls-cert-file", str(certificate), "--tls-key-file", str(certificate))
    others = ("--tls-ca-cert-file", str(certificate), "--tls-auth-clients", "no")
    with (
        kept_port() as port,
        running("--port", "0", "--bind", "127.0.0.1", "--tls-port", str(port), *own, *others),
    ):
        yield port


@contextmanager
def running(*options: str) -> Iterator[Path]:
    """A server that runs in a folder of its own."""
    program = shutil.which("redis-server")
    if program is None:
        not_installed("Redis", "redis-server")
    # Not pytest's tmp_path: its name may be too long for a socket.
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        command = [program, *options, "--save", "", "--appendonly", "no"]
        with subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as server:
            try:
                assert server.stdout is not None
                log: list[str] = []
                while "eady to accept connections" not in "".join(log[-1:]):
                    log.append(server.stdout.readline())
                    if "Bad directive" in log[-1] and "--tls-port" in options:
                        pytest.skip("redis-server is built without TLS here: it doesn't know --tls-port")
                    assert log[-1], "Redis did not start:\n" + "".join(log)
                yield Path(folder)
            finally:
                server.terminate()
                server.wait(SECONDS)
