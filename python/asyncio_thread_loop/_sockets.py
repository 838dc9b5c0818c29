"""The `sock_*` coroutines of `EventLoop`: attempts that are made natively, and waits between them."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from ._native import (
    LoopCore,
    Wait,
    accept,
    check_connected,
    connect,
    is_to_be_resolved,
    receive,
    receive_from,
    receive_from_into,
    receive_into,
    send,
    send_to,
)

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


class SocketOperations(LoopCore):
    """Low-level operations on sockets that don't block, as `asyncio.SelectorEventLoop` has them.

    An attempt is made first, without a wait. One that is cancelled while it waits has taken nothing from the socket.
    Of two that wait for the same of one socket only the later one goes on.
    """

    async def sock_recv(self, sock: socket.socket, n: int) -> bytes:
        """Receives at most `n` bytes; none if the other side has sent all it wanted to."""
        while isinstance(received := receive(self, sock, n), Wait):
            await received
        return received

    async def sock_recv_into(self, sock: socket.socket, buf: WriteableBuffer) -> int:
        """Receives into `buf` and returns the number of bytes."""
        while isinstance(received := receive_into(self, sock, buf), Wait):
            await received
        return received

    async def sock_recvfrom(self, sock: socket.socket, bufsize: int) -> tuple[bytes, Any]:
        """Receives a datagram, cut to `bufsize` bytes, and the address it came from."""
        while isinstance(received := receive_from(self, sock, bufsize), Wait):
            await received
        return received

    async def sock_recvfrom_into(
        self, sock: socket.socket, buf: WriteableBuffer, nbytes: int = 0
    ) -> tuple[int, Any]:
        """Receives a datagram into `buf` and returns the number of bytes and the address it came from."""
        while isinstance(received := receive_from_into(self, sock, buf, nbytes), Wait):
            await received
        return received

    async def sock_sendall(self, sock: socket.socket, data: ReadableBuffer) -> None:
        """Sends all of `data`. After an error nobody knows how much of it was sent."""
        if (wait := send(self, sock, data, 0)) is None:
            return
        with memoryview(data) as rest:  # its size must not change meanwhile
            while wait is not None:
                await wait
                wait = send(self, sock, rest, wait.done)

    async def sock_sendto(self, sock: socket.socket, data: ReadableBuffer, address: Any) -> int:
        """Sends a datagram to `address` and returns the number of bytes."""
        while isinstance(sent := send_to(self, sock, data, address), Wait):
            await sent
        return sent

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connects to `address`, whose host is looked up if it is a name."""
        if is_to_be_resolved(self, sock, address):
            resolved = await self._ensure_resolved(  # type: ignore[attr-defined]
                address, family=sock.family, type=sock.type, proto=sock.proto, loop=self
            )
            *_, address = resolved[0]
        wait = connect(self, sock, address)
        while wait is not None:
            await wait
            wait = check_connected(self, sock, address)

    async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
        """Accepts a connection and returns it and the address it came from."""
        while isinstance(accepted := accept(self, sock), Wait):
            await accepted
        return accepted
