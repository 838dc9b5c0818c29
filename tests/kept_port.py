"""A port for a server that can't be told to take any."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept_port() -> Iterator[int]:
    """A TCP port of 127.0.0.1 that nobody else is given meanwhile, and that a server may listen on again and again.

    It is bound all the time by a socket that doesn't listen. Linux lets another one be bound there as well if it asks
    for the same port, and both allow it (`SO_REUSEADDR`), as servers do.
    """
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]
