"""The servers that the examples need."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_server import PostgresServer, postgres_server
from redis_server import redis_server
from running_examples import serve_example, serving


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_not_ignored() -> Iterator[None]:
    """A shell's background jobs ignore SIGINT, and so would the processes started here."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def upstream() -> Iterator[str]:
    """The address of a server that misbehaves on request, see `upstream.py`."""
    with serving([str(Path(__file__).with_name("upstream.py"))], {}, end=signal.SIGTERM) as address:
        yield address


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of the server that the examples for clients use."""
    with serve_example("server.py") as address:
        yield address


@pytest.fixture
def port_nobody_listens_on() -> Iterator[int]:
    """Bound but not listening while the test runs, so it is refused and nobody else gets it."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def redis_socket() -> Iterator[Path]:
    with redis_server() as socket:
        yield socket
