"""What of a transport is rare, and so is Python: errors, warnings, what it looks like."""

from __future__ import annotations

import asyncio
import socket
from asyncio import base_events, constants, selector_events
from asyncio.log import logger
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any

from ._native import LoopCore, StreamTransport, prepare_transport_type

_Standard = selector_events._SelectorSocketTransport  # type: ignore[attr-defined]


class SocketTransport(StreamTransport):
    """A connection over TCP or a Unix socket; to `isinstance` it is asyncio's."""

    _start_tls_compatible = True
    _sendfile_compatible = constants._SendfileMode.TRY_NATIVE

    if not TYPE_CHECKING:
        # A class of the standard library can't be derived from, as its instances are laid out otherwise.
        __class__ = property(lambda self: _Standard)

    __repr__ = _Standard.__repr__
    _make_empty_waiter = _Standard._make_empty_waiter
    _reset_empty_waiter = _Standard._reset_empty_waiter

    def _end_unclosed(self) -> None:
        """Called instead of a `__del__`, and only if nobody closed it."""
        self._unwatch()
        _Standard.__del__(self)

    def _fatal_error(self, exc: BaseException, message: str = "Fatal error on transport") -> None:
        report(self, exc, message, is_usual=isinstance(exc, OSError))
        self._force_close(exc)


prepare_transport_type(SocketTransport)


def make_transport(
    loop: LoopCore,
    sock: socket.socket,
    protocol: asyncio.BaseProtocol,
    waiter: asyncio.Future[None] | None,
    extra: dict[str, Any] | None,
    server: asyncio.AbstractServer | None,
    context: Context | None,
) -> SocketTransport:
    """A transport that calls `connection_made` in the loop's next turn, and then ends the wait of `waiter`."""
    transport = SocketTransport(loop, sock, protocol, describe(extra, sock), server, context)
    base_events._set_nodelay(sock)  # type: ignore[attr-defined]
    transport._begin(waiter)
    return transport


def describe(extra: dict[str, Any] | None, sock: socket.socket) -> dict[str, Any]:
    """What a transport tells of its socket."""
    info = {} if extra is None else extra
    info["socket"] = TransportSocket(sock)
    info["sockname"] = _address(sock.getsockname)
    if "peername" not in info:
        info["peername"] = _address(sock.getpeername)
    return info


def report(transport: Any, exc: BaseException, message: str, *, is_usual: bool) -> None:
    """Tells of what ends a transport: the loop's exception handler or, if that is usual, who debugs."""
    loop = transport._loop
    if loop is not None and not is_usual:
        context = {
            "message": message,
            "exception": exc,
            "transport": transport,
            "protocol": transport._protocol,
        }
        loop.call_exception_handler(context)
    elif loop is not None and loop.get_debug():
        logger.debug("%r: %s", transport, message, exc_info=exc)


def _address(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except OSError:
        return None


def is_native(sock: Any) -> bool:
    """Whether the socket is a plain one: whatever a subclass changes about receiving and sending must not be lost."""
    return type(sock) is socket.socket
