"""What of the transports of pipes is rare, and so is Python."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from asyncio import unix_events
from typing import TYPE_CHECKING, Any

from . import _native
from ._transports import report

_Reading: Any = unix_events._UnixReadPipeTransport  # type: ignore[attr-defined]
_Writing: Any = unix_events._UnixWritePipeTransport  # type: ignore[attr-defined]


class ReadPipeTransport(_native.ReadPipeTransport):
    """The end of a pipe that is read from; to `isinstance` it is asyncio's."""

    if not TYPE_CHECKING:
        __class__ = property(lambda self: _Reading)

    __repr__ = _Reading.__repr__

    def __del__(self) -> None:
        if self._pipe is not None:
            self._unwatch()
            _Reading.__del__(self)

    def _fatal_error(self, exc: BaseException, message: str = "Fatal error on pipe transport") -> None:
        # The end of a terminal is an error, too.
        report(self, exc, message, is_usual=isinstance(exc, OSError) and exc.errno == errno.EIO)
        self._close(exc)


class WritePipeTransport(_native.WritePipeTransport):
    """The end of a pipe that is written to; to `isinstance` it is asyncio's."""

    if not TYPE_CHECKING:
        __class__ = property(lambda self: _Writing)

    __repr__ = _Writing.__repr__
    writelines = _Writing.writelines

    def __del__(self) -> None:
        if self._pipe is not None:
            self._unwatch()
            _Writing.__del__(self)

    def _fatal_error(self, exc: BaseException, message: str = "Fatal error on pipe transport") -> None:
        report(self, exc, message, is_usual=isinstance(exc, OSError))
        self._close(exc)


def make_read_pipe_transport(
    loop: Any,
    pipe: Any,
    protocol: asyncio.BaseProtocol,
    waiter: asyncio.Future[None] | None = None,
    extra: dict[str, Any] | None = None,
) -> ReadPipeTransport:
    """A transport that calls `connection_made` in the loop's next turn, and then ends the wait of `waiter`."""
    _open(pipe, "Pipe transport is for pipes/sockets only.")
    transport = ReadPipeTransport(loop, pipe, protocol, _described(extra, pipe))
    transport._begin(waiter)
    return transport


def make_write_pipe_transport(
    loop: Any,
    pipe: Any,
    protocol: asyncio.BaseProtocol,
    waiter: asyncio.Future[None] | None = None,
    extra: dict[str, Any] | None = None,
) -> WritePipeTransport:
    """The same, to write to. That nobody reads any more isn't noticed by a terminal."""
    mode = _open(pipe, "Pipe transport is only for pipes, sockets and character devices")
    transport = WritePipeTransport(loop, pipe, protocol, _described(extra, pipe), not stat.S_ISCHR(mode))
    transport._begin(waiter)
    return transport


def _open(pipe: Any, refusal: str) -> int:
    """Has a pipe not block and returns what kind of file it is."""
    fd = pipe.fileno()
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)):
        raise ValueError(refusal)
    os.set_blocking(fd, False)
    return mode


def _described(extra: dict[str, Any] | None, pipe: Any) -> dict[str, Any]:
    info = {} if extra is None else extra
    info["pipe"] = pipe
    return info
