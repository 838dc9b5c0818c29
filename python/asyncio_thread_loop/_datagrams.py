"""What of a datagram transport is rare, and so is Python."""

from __future__ import annotations

import asyncio
import socket
from asyncio import selector_events
from typing import TYPE_CHECKING, Any

from . import _native
from ._transports import describe, is_native, report

_Standard: Any = selector_events._SelectorDatagramTransport  # type: ignore[attr-defined]


class DatagramTransport(_native.DatagramTransport):
    """A socket of datagrams; to `isinstance` it is asyncio's."""

    if not TYPE_CHECKING:
        __class__ = property(lambda self: _Standard)

    _server = None  # as in the standard library, whose methods look at it

    __repr__ = _Standard.__repr__

    def __del__(self) -> None:
        if self._sock is not None:
            self._unwatch()
            _Standard.__del__(self)

    def _fatal_error(self, exc: BaseException, message: str = "Fatal error on transport") -> None:
        report(self, exc, message, is_usual=isinstance(exc, OSError))
        self._force_close(exc)


def make_datagram_transport(
    loop: Any,
    sock: socket.socket,
    protocol: asyncio.BaseProtocol,
    address: Any = None,
    waiter: asyncio.Future[None] | None = None,
    extra: dict[str, Any] | None = None,
) -> Any:
    """A transport that calls `connection_made` in the loop's next turn, and then ends the wait of `waiter`."""
    if not is_native(sock):
        return _Standard(loop, sock, protocol, address, waiter, extra)
    transport = DatagramTransport(loop, sock, protocol, address, describe(extra, sock))
    loop._transports[transport._sock_fd] = transport
    transport._begin(waiter)
    return transport
