"""A Redis server for the tests, from the program installed on the machine."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from installed import not_installed

SECONDS = 60


@contextmanager
def redis_server() -> Iterator[Path]:
    """A Redis server of its own, which keeps nothing; gives the Unix socket that it listens on."""
    program = shutil.which("redis-server")
    if program is None:
        not_installed("Redis", "redis-server")
    # Not pytest's tmp_path: its name may be too long for a socket.
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        command = [program, "--port", "0", "--unixsocket", "socket", "--save", "", "--appendonly", "no"]
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                log: list[str] = []
                while "eady to accept connections" not in "".join(log[-1:]):
                    log.append(server.stdout.readline())
                    assert log[-1], "Redis did not start:\n" + "".join(log)
                yield Path(folder, "socket")
            finally:
                server.terminate()
                server.wait(SECONDS)
