import gc
import hashlib
import random
import ssl

import pytest
from contract.harness import descriptors, no_thread_left, until
from hosts.conftest import program as program
from postgres_server import postgres_server
from redis_server import redis_server, redis_tls_server


@pytest.fixture(scope="session")
def postgres(certificate):
    with postgres_server(certificate) as server:
        yield server


@pytest.fixture(scope="session")
def redis_socket():
    with redis_server() as socket:
        yield socket


@pytest.fixture(scope="session")
def redis_tls_port(certificate):
    with redis_tls_server(certificate) as port:
        yield port


@pytest.fixture(scope="session")
def tls(certificate):
    """TLS contexts of a server with that certificate, and of a client that trusts it."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate)
    return server, ssl.create_default_context(cafile=certificate)


@pytest.fixture(scope="session")
def noise():
    """Make so many bytes in which nothing repeats, the same each time: what is lost, doubled or moved is noticed."""

    def noise(size, seed=0):
        return random.Random(seed).randbytes(size)

    return noise


@pytest.fixture(autouse=True)
def _nothing_is_left(caplog):
    """A program leaves no thread and no descriptor behind, and the loop had nothing to complain about."""
    before = descriptors()
    with no_thread_left():
        yield
        gc.collect()  # grpc ends its thread with the last of its objects
    until(lambda: descriptors() <= before)  # grpc closes some of its own on threads that aren't Python's
    complaints = [record.getMessage() for record in caplog.get_records("call") if record.name == "asyncio"]
    assert not complaints


def digest(data):
    return hashlib.sha256(data).hexdigest()
