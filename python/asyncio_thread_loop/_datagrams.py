"""asyncio's datagram transport, with what it does for each datagram in Rust."""

from __future__ import annotations

from asyncio import selector_events
from typing import TYPE_CHECKING, Any

from ._native import receive_datagrams, send_datagram

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_Standard: Any = selector_events._SelectorDatagramTransport  # type: ignore[attr-defined]


class DatagramTransport(_Standard):  # type: ignore[misc]
    """For a plain socket. When it can be read, all that is there is received, up to a bound."""

    _singles = 0
    """So often from now on no second datagram is looked for after the first: they come one by one."""

    def _read_ready(self) -> None:
        receive_datagrams(self)

    def sendto(self, data: ReadableBuffer, addr: Any = None) -> None:
        try:
            if send_datagram(self, data, addr):
                return
        except OSError as error:
            self._protocol.error_received(error)
            return
        super().sendto(data, addr)
