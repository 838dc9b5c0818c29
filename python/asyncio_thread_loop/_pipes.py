"""asyncio's transport for reading from a pipe, with the reading in Rust."""

from __future__ import annotations

from asyncio import unix_events
from typing import Any

from ._native import read_pipe

_Standard: Any = unix_events._UnixReadPipeTransport  # type: ignore[attr-defined]


class ReadPipeTransport(_Standard):  # type: ignore[misc]
    """It reads into memory that is used again."""

    def _read_ready(self) -> None:
        try:
            data = read_pipe(self._fileno, self.max_size)
        except OSError as error:
            self._fatal_error(error, "Fatal read error on pipe transport")
            return
        if data:
            self._protocol.data_received(data)
        elif data is not None:
            self._end()

    def _end(self) -> None:
        """The other end is closed. The protocol is told of that and then, in the same turn, that the pipe is lost."""
        loop = self._loop
        if loop.get_debug():
            unix_events.logger.info("%r was closed by peer", self)  # type: ignore[attr-defined]
        self._closing = True
        loop._remove_reader(self._fileno)
        loop.call_soon(self._protocol.eof_received)
        loop.call_soon(self._call_connection_lost, None)
