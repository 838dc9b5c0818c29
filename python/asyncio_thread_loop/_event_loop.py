"""`EventLoop`: an asyncio event loop whose scheduling is Rust."""

from __future__ import annotations

import asyncio
import concurrent.futures
import errno
import selectors
import weakref
from asyncio import constants
from asyncio.log import logger
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, TypeVarTuple, Unpack

from ._datagrams import make_datagram_transport
from ._native import Listener
from ._sockets import SocketOperations
from ._tls import TlsProtocol
from ._transports import is_native, make_transport

if TYPE_CHECKING:
    import socket
    import ssl

__all__ = ["EventLoop"]

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

# Bound once: a program that replaces `asyncio.SelectorEventLoop` later doesn't change what this one is.
_Standard = asyncio.SelectorEventLoop

# What there may be too little of when a connection is accepted: it is tried again later.
_LACKS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

# Overriding these would do nothing, or not what it does in the standard loop.
_NATIVE = {"time", "_run_once", "_process_events", "_add_callback"}


class EventLoop(SocketOperations, _Standard):
    """A complete asyncio event loop, with its scheduling, poller, transports, `sock_*` and cross-thread calls in Rust.

    Reading and writing over TLS is Rust, too, over the standard library's `ssl`. Handshakes, subprocesses, DNS, signals
    and executors are the standard library's. Timers are precise to microseconds rather than milliseconds.
    `call_soon_threadsafe` writes to the kernel only if the loop sleeps.

    It is the loop under `AsyncioThreadLoop` and works without it:

    >>> async def main():
    ...     return await asyncio.sleep(0.01, "slept")
    >>> with asyncio.Runner(loop_factory=EventLoop) as runner:
    ...     runner.run(main())
    'slept'
    """

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        if selector is not None:
            self._closed = True  # `__del__` has nothing to close
            raise NotImplementedError("EventLoop polls by itself: it takes no selector")
        super().__init__(_Watched(self))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in vars(cls).keys() & _NATIVE:
            raise NotImplementedError(
                f"{cls.__qualname__}.{name}: EventLoop does this natively, in a loop of its own"
            )

    def run_in_executor(
        self, executor: concurrent.futures.Executor | None, func: Callable[[Unpack[_Ts]], _T], *args: *_Ts
    ) -> asyncio.Future[_T]:
        """Runs `func(*args)` in the executor, or in a thread of the loop's own; returns a future of it."""
        loop: Any = self  # with what the standard library has in it, which its types don't tell
        chosen = loop._default_executor if executor is None else executor
        if loop._debug or chosen is None:
            return super().run_in_executor(executor, func, *args)
        loop._check_closed()
        if executor is None:
            loop._check_default_executor()
        work = chosen.submit(func, *args)
        if isinstance(work, concurrent.futures.Future):
            return self._future_for(work)
        return asyncio.wrap_future(work, loop=self)

    def add_signal_handler(self, sig: int, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts) -> None:
        """Has `callback(*args)` called on the loop when the signal arrives. On the main thread only."""
        if self._is_shared:
            # The main thread may be running it right now, and another one in a moment.
            raise RuntimeError("a loop with a thread of its own can't handle signals")
        self._minds_signals = True
        super().add_signal_handler(sig, callback, *args)

    def _make_socket_transport(
        self,
        sock: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        *,
        extra: dict[str, Any] | None = None,
        server: asyncio.AbstractServer | None = None,
        context: Context | None = None,
    ) -> Any:
        if not is_native(sock):
            return super()._make_socket_transport(  # type: ignore[misc]
                sock, protocol, waiter, extra=extra, server=server
            )
        self._ensure_fd_no_transport(sock)  # type: ignore[attr-defined]
        return make_transport(self, sock, protocol, waiter, extra, server, context)

    def _start_serving(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        sock: Any,
        sslcontext: ssl.SSLContext | None = None,
        server: asyncio.AbstractServer | None = None,
        backlog: int = 100,
        *timeouts: Any,
        **more_timeouts: Any,
    ) -> None:
        if sslcontext is not None or more_timeouts or not is_native(sock):
            super()._start_serving(  # type: ignore[misc]
                protocol_factory, sock, sslcontext, server, backlog, *timeouts, **more_timeouts
            )
            return
        accepting = (protocol_factory, sock, sslcontext, server, backlog, *timeouts)
        Listener(sock, accepting, server, backlog)._begin(self)

    def _accept_connection(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        sock: socket.socket,
        sslcontext: ssl.SSLContext | None = None,
        server: asyncio.AbstractServer | None = None,
        backlog: int = 100,
        ssl_handshake_timeout: float | None = constants.SSL_HANDSHAKE_TIMEOUT,
        ssl_shutdown_timeout: float | None = constants.SSL_SHUTDOWN_TIMEOUT,
    ) -> None:
        """Accepts what waits: for TLS, in debug mode, and whatever `Listener` failed to.

        As asyncio does it. But a server that lacks descriptors tells of it once, not as often as its backlog is long,
        and may be closed before it tries again.
        """
        loop: Any = self
        timeouts = ssl_handshake_timeout, ssl_shutdown_timeout
        for _ in range(backlog):
            try:
                connection, address = sock.accept()
                if loop._debug:
                    logger.debug("%r got a new connection from %r: %r", server, address, connection)
                connection.setblocking(False)
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _LACKS:
                    raise
                report = {
                    "message": "socket.accept() out of system resource",
                    "exception": error,
                    "socket": TransportSocket(sock),
                }
                self.call_exception_handler(report)
                loop._remove_reader(sock.fileno())
                args = (protocol_factory, sock, sslcontext, server, backlog, *timeouts)
                self.call_later(constants.ACCEPT_RETRY_DELAY, self._serve_again, *args)
                return
            accept = loop._accept_connection2(
                protocol_factory, connection, {"peername": address}, sslcontext, server, *timeouts
            )
            self.create_task(accept)

    def _serve_again(self, protocol_factory: Any, sock: socket.socket, *args: Any) -> None:
        if sock.fileno() >= 0:
            self._start_serving(protocol_factory, sock, *args)

    def _make_ssl_transport(
        self,
        rawsock: Any,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext,
        waiter: Any = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: dict[str, Any] | None = None,
        server: asyncio.AbstractServer | None = None,
        **kwargs: Any,
    ) -> Any:
        if not is_native(rawsock):
            return super()._make_ssl_transport(  # type: ignore[misc]
                rawsock,
                protocol,
                sslcontext,
                waiter,
                server_side=server_side,
                server_hostname=server_hostname,
                extra=extra,
                server=server,
                **kwargs,
            )
        self._ensure_fd_no_transport(rawsock)  # type: ignore[attr-defined]
        context = kwargs.pop("context", None)
        tls = TlsProtocol(self, protocol, sslcontext, waiter, server_side, server_hostname, **kwargs)
        make_transport(self, rawsock, tls, None, extra, server, context)
        return tls._app_transport

    async def start_tls(
        self,
        transport: Any,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> Any:
        """Goes on with TLS over the transport; returns the one that `protocol` has to use from now on.

        The transport may be any that asyncio has, one of TLS included. `TypeError` if it is none of them.
        """
        import ssl

        if not isinstance(sslcontext, ssl.SSLContext):
            raise TypeError(f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}")
        if not getattr(transport, "_start_tls_compatible", False):
            raise TypeError(f"transport {transport!r} is not supported by start_tls()")
        waiter = self.create_future()
        tls = TlsProtocol(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            call_connection_made=False,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        # What comes until it is ready for it stays where it is.
        transport.pause_reading()
        transport.set_protocol(tls)
        soon = self.call_soon(tls.connection_made, transport), self.call_soon(transport.resume_reading)
        try:
            await waiter
        except BaseException:
            transport.close()
            for handle in soon:
                handle.cancel()
            raise
        return tls._app_transport

    def _make_datagram_transport(self, sock: Any, *args: Any, **kwargs: Any) -> Any:
        self._ensure_fd_no_transport(sock)  # type: ignore[attr-defined]
        return make_datagram_transport(self, sock, *args, **kwargs)

    # What few programs need is imported when they do: one that only wants a loop starts sooner.

    async def _sendfile_native(self, *args: Any) -> int:
        from ._sendfile import sendfile

        return await sendfile(self, *args)

    def _make_read_pipe_transport(self, *args: Any, **kwargs: Any) -> Any:
        from ._pipes import make_read_pipe_transport

        return make_read_pipe_transport(self, *args, **kwargs)

    def _make_write_pipe_transport(self, *args: Any, **kwargs: Any) -> Any:
        from ._pipes import make_write_pipe_transport

        return make_write_pipe_transport(self, *args, **kwargs)

    def _close_self_pipe(self) -> None:
        loop: Any = self
        if loop._ssock.fileno() >= 0:
            super()._close_self_pipe()  # type: ignore[misc]
        else:  # the collector, which knows no order, has finalized it before the loop
            loop._csock.close()
            loop._ssock = loop._csock = None

    def close(self) -> None:
        """Closes the loop, which must not be running, and lets go of all that was scheduled. Idempotent."""
        super().close()
        self._release()


class _Watched(selectors.BaseSelector):
    """Stands where the standard loop has its selector: transports ask it what a descriptor is watched for.

    It is never asked to select.
    """

    def __init__(self, loop: EventLoop) -> None:
        self._loop = weakref.ref(loop)

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        loop = self._loop()
        reads, writes = loop._watched(fd) if loop is not None else (False, False)
        if not (reads or writes):
            raise KeyError(f"{fileobj!r} is not registered")
        events = selectors.EVENT_READ * reads | selectors.EVENT_WRITE * writes
        return selectors.SelectorKey(fileobj, fd, events, None)

    def get_map(self) -> NoReturn:
        raise NotImplementedError("EventLoop tells of one descriptor at a time: use get_key()")

    def register(self, fileobj: Any, events: int, data: Any = None) -> NoReturn:
        raise NotImplementedError("EventLoop keeps its descriptors itself: use add_reader() and add_writer()")

    def unregister(self, fileobj: Any) -> NoReturn:
        raise NotImplementedError(
            "EventLoop keeps its descriptors itself: use remove_reader() and remove_writer()"
        )

    def select(self, timeout: float | None = None) -> NoReturn:
        raise NotImplementedError("EventLoop polls by itself")


EventLoop.__module__ = "asyncio_thread_loop"
