"""TLS: asyncio's life cycle of a connection, with its reading and writing in Rust."""

from __future__ import annotations

import asyncio
import warnings
from asyncio import constants, sslproto
from typing import TYPE_CHECKING, Any, NoReturn

from ._native import TlsCore, TlsTransportCore

_Standard = sslproto._SSLProtocolTransport


class TlsProtocol(TlsCore, sslproto.SSLProtocol):
    """Stands between the transport below and the application's protocol.

    The methods that `TlsCore` has are called per message; all others are asyncio's.
    """

    _app_transport: Any  # a `TlsTransport`, or None once the connection is lost
    _app_transport_created: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # A native transport below has memory of its own. Under others `get_buffer` makes it anew.
        self._ssl_buffer = bytearray()

    def _keep_appdata(self, data: bytes) -> None:
        """What is written while it can't be encrypted waits until it can; after the end it is dropped."""
        sslproto.SSLProtocol._write_appdata(self, [data])

    def _get_app_transport(self) -> Any:
        if not self._app_transport_created:
            self._app_transport_created = True
            self._app_transport = TlsTransport(self)
        return self._app_transport


class TlsTransport(TlsTransportCore):
    """What the application writes to; to `isinstance` it is asyncio's."""

    _start_tls_compatible = True
    _sendfile_compatible = constants._SendfileMode.FALLBACK

    if not TYPE_CHECKING:
        # A class of the standard library can't be derived from, as its instances are laid out otherwise.
        __class__ = property(lambda self: _Standard)

    def __init__(self, protocol: TlsProtocol) -> None:
        self._loop = protocol._loop
        self._closed = False

    def __del__(self) -> None:
        if not self._closed:
            self._closed = True
            warnings.warn(
                "unclosed transport <asyncio._SSLProtocolTransport object>",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        tls = self._ssl_protocol
        return default if tls is None else tls._get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        if (tls := self._ssl_protocol) is not None:
            tls._set_app_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol | None:
        tls = self._ssl_protocol
        return None if tls is None else tls._app_protocol

    def is_closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Sends what was written, then that this was all, and closes.

        Closed once more it lets go of the connection, which need not be there for it to end.
        """
        if self._closed:
            self._let_go()
        elif (tls := self._ssl_protocol) is not None:
            self._closed = True
            tls._start_shutdown()

    def abort(self) -> None:
        """Closes at once: what wasn't sent is lost."""
        self._force_close(None)

    def _force_close(self, exc: BaseException | None) -> None:
        self._closed = True
        if (tls := self._ssl_protocol) is not None:
            tls._set_state(sslproto.SSLProtocolState.UNWRAPPED)
            if tls._transport is not None:
                tls._transport._force_close(exc)

    def is_reading(self) -> bool:
        tls = self._ssl_protocol
        return tls is not None and not tls._app_reading_paused

    def pause_reading(self) -> None:
        if (tls := self._ssl_protocol) is not None:
            tls._pause_reading()

    def resume_reading(self) -> None:
        if (tls := self._ssl_protocol) is not None:
            tls._resume_reading()

    def write_eof(self) -> NoReturn:
        raise NotImplementedError("TLS has no end of one direction: use close()")

    def can_write_eof(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if (tls := self._ssl_protocol) is not None:
            tls._set_write_buffer_limits(high, low)
            tls._control_app_writing()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        tls = self._ssl_protocol
        return (0, 0) if tls is None else (tls._outgoing_low_water, tls._outgoing_high_water)

    def get_write_buffer_size(self) -> int:
        tls = self._ssl_protocol
        return 0 if tls is None else tls._get_write_buffer_size()

    def set_read_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if (tls := self._ssl_protocol) is not None:
            tls._set_read_buffer_limits(high, low)
            tls._control_ssl_reading()

    def get_read_buffer_limits(self) -> tuple[int, int]:
        tls = self._ssl_protocol
        return (0, 0) if tls is None else (tls._incoming_low_water, tls._incoming_high_water)

    def get_read_buffer_size(self) -> int:
        tls = self._ssl_protocol
        return 0 if tls is None else tls._get_read_buffer_size()

    @property
    def _protocol_paused(self) -> bool:
        """Which sending a file in pieces minds."""
        tls = self._ssl_protocol
        return tls is not None and tls._app_writing_paused

    def _test__append_write_backlog(self, data: bytes) -> None:
        """For CPython's tests."""
        self._ssl_protocol._write_backlog.append(data)
        self._ssl_protocol._write_buffer_size += len(data)
