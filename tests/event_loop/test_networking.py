"""Servers and clients over TCP, Unix sockets, UDP and TLS."""

import asyncio
import functools
import socket
import ssl

import pytest
from self_signed import self_signed

SIZE = 1_000_000


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def round_trip(reader, writer):
    """Send a megabyte and get it back."""
    message = bytes(range(250)) * (SIZE // 250)

    async def send():
        writer.write(message)
        await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    sending = asyncio.create_task(send())
    assert await reader.readexactly(SIZE) == message
    await sending
    writer.close()
    await writer.wait_closed()


def test_tcp_streams(run):
    async def main():
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            address = server.sockets[0].getsockname()
            for _ in range(3):
                await round_trip(*await asyncio.open_connection(*address))

    run(main())


def test_many_connections_at_once(run):
    async def one(address, number):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"%d\n" % number)
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return int(line)

    async def main():
        async with await asyncio.start_server(echo, "127.0.0.1", 0, backlog=300) as server:
            address = server.sockets[0].getsockname()
            return await asyncio.gather(*(one(address, number) for number in range(200)))

    assert run(main()) == list(range(200))


def test_unix_streams(run, tmp_path):
    async def main():
        path = tmp_path / "socket"
        async with await asyncio.start_unix_server(echo, path):
            await round_trip(*await asyncio.open_unix_connection(path))

    run(main())


def test_a_refused_connection_is_an_error(run):
    async def main():
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = server.getsockname()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)

    run(main())


def test_datagrams(run):
    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, address):
            self.transport.sendto(data, address)

    class Client(asyncio.DatagramProtocol):
        def __init__(self):
            self.received = asyncio.Queue()

        def datagram_received(self, data, address):
            self.received.put_nowait(data)

    async def main():
        loop = asyncio.get_running_loop()
        server, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
        address = server.get_extra_info("sockname")
        transport, client = await loop.create_datagram_endpoint(Client, remote_addr=address)
        for number in range(100):
            transport.sendto(b"%d" % number)
            assert await client.received.get() == b"%d" % number
        transport.close()
        server.close()

    run(main())


def test_socket_methods(run):
    async def main():
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
            server.setblocking(False)
            client.setblocking(False)
            accepting = asyncio.create_task(loop.sock_accept(server))
            await loop.sock_connect(client, server.getsockname())
            accepted, _ = await accepting
            with accepted:
                sending = asyncio.create_task(loop.sock_sendall(client, bytes(SIZE)))
                received = 0
                while received < SIZE:
                    received += len(await loop.sock_recv(accepted, 65536))
                await sending
        return received

    assert run(main()) == SIZE


def test_sendfile(run, tmp_path):
    (tmp_path / "file").write_bytes(bytes(SIZE))

    async def serve(reader, writer):
        loop = asyncio.get_running_loop()
        with open(tmp_path / "file", "rb") as file:
            assert await loop.sendfile(writer.transport, file) == SIZE
        writer.close()
        await writer.wait_closed()

    async def main():
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            assert len(await reader.read()) == SIZE
            writer.close()
            await writer.wait_closed()

    run(main())


def test_names_are_resolved(run):
    async def main():
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
        assert {info[4][0] for info in found} & {"127.0.0.1", "::1"}
        assert (await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST))[0] == "127.0.0.1"
        with pytest.raises(socket.gaierror):
            await loop.getaddrinfo("does-not-exist.invalid", 80)

    run(main())


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """TLS contexts of a server with a self-signed certificate and of a client that trusts it."""
    certificate = self_signed(tmp_path_factory.mktemp("tls"))
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate)
    client = ssl.create_default_context(cafile=certificate)
    return server, client


def test_tls_streams(run, tls):
    for_server, for_client = tls

    async def main():
        async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=for_server) as server:
            address = server.sockets[0].getsockname()
            connect = functools.partial(asyncio.open_connection, *address, ssl=for_client)
            reader, writer = await connect(server_hostname="localhost")
            assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
            await round_trip(reader, writer)

    run(main())


def test_a_certificate_of_another_name_is_refused(run, tls):
    for_server, for_client = tls

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)  # the server's side of the failed handshake
        async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=for_server) as server:
            address = server.sockets[0].getsockname()
            with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
                await asyncio.open_connection(*address, ssl=for_client, server_hostname="elsewhere")

    run(main())


def test_a_connection_can_be_upgraded_to_tls(run, tls):
    for_server, for_client = tls

    async def serve(reader, writer):
        await reader.readline()
        writer.write(b"go\n")
        await writer.start_tls(for_server)
        await echo(reader, writer)

    async def main():
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"upgrade\n")
            assert await reader.readline() == b"go\n"
            await writer.start_tls(for_client, server_hostname="localhost")
            await round_trip(reader, writer)

    run(main())
