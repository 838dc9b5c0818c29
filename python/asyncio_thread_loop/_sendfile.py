"""Sending a file over a transport, by the system: the transport gets back what it lends, however that ends."""

from __future__ import annotations

import asyncio
from typing import Any


async def sendfile(loop: Any, transport: Any, file: Any, offset: int, count: int | None) -> int:
    """Sends the file once what was written before has been sent; returns how many bytes that were.

    `ConnectionError` if the connection ends before. As asyncio's loops have it, but theirs don't notice an end of this
    side's making, and keep what they borrowed of the transport if this is cancelled before the file's turn.
    """
    emptied = transport._make_empty_waiter()
    number, reads = transport._sock_fd, transport.is_reading()
    del loop._transports[number]  # now the loop may watch it for others
    transport.pause_reading()
    try:
        await emptied
        if transport._sock is None:
            raise ConnectionError("Connection is closed")
        sends = loop.sock_sendfile(transport._sock, file, offset, count, fallback=False)
        sending: asyncio.Task[int] = loop.create_task(sends)
        transport._empty_waiter = end = _End(loop, number, sending)
        try:
            return await sending
        except asyncio.CancelledError:
            if end.error is not None and not _is_cancelled():
                raise end.error from None
            raise
    finally:
        transport._reset_empty_waiter()
        if reads:
            transport.resume_reading()
        if not transport.is_closing():  # the number may be another's otherwise
            loop._transports[number] = transport


class _End:
    """Stands where the transport has the future of who waits for its buffer, and is told of its end in the same way.

    The socket is still open then. Once it is closed it couldn't be told from another one with its number.
    """

    def __init__(self, loop: Any, number: int, sending: asyncio.Task[int]) -> None:
        self._loop, self._number, self._sending = loop, number, sending
        self.error: BaseException | None = None

    def done(self) -> bool:
        return self._sending.done()

    def set_exception(self, error: BaseException) -> None:
        self.error = error
        self._loop._remove_writer(self._number)
        self._sending.cancel()


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
