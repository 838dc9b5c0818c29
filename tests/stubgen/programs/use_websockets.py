from concurrent.futures import Future
from typing import assert_type

from faces.websockets_asyncio_client_sync import ClientConnection, connect


def used_well() -> None:
    with connect("ws://localhost", open_timeout=3) as connection:
        assert_type(connection, ClientConnection)
        connection.send("hello")
        assert_type(connection.recv(decode=True), str)
        assert_type(connection.recv(decode=False), bytes)
        for message in connection:
            assert_type(message, str | bytes)
        pong: Future[float] = connection.ping()
        assert_type(pong.result(), float)
        connection.close(reason="done")
    assert_type(connect("ws://localhost").result(), ClientConnection)


def used_wrongly(connection: ClientConnection) -> None:
    connection.send(3)  # wrong: arg-type, reportArgumentType
    connection.recv(decode="yes")  # wrong: call-overload, reportCallIssue reportArgumentType
    connection.receive()  # wrong: attr-defined, reportAttributeAccessIssue
    for message in connection:
        message.nothing()  # wrong: union-attr, reportAttributeAccessIssue
    connect("ws://localhost").recv()  # wrong: attr-defined, reportAttributeAccessIssue


async def awaited(connection: ClientConnection) -> None:
    await connection.recv(decode=True)  # wrong: misc, reportGeneralTypeIssues
    async for message in connection:  # wrong: attr-defined, reportGeneralTypeIssues
        print(message)
