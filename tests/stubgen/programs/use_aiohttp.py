from typing import Any, assert_type

from faces.aiohttp_sync import ClientResponse, ClientSession


def used_well() -> None:
    with ClientSession(headers={"accept": "text/plain"}) as session:
        assert_type(session, ClientSession)
        with session.get("http://localhost", params={"page": 1}, timeout=None) as response:
            assert_type(response, ClientResponse)
            assert_type(response.status, int)
            assert_type(response.text(), str)
            assert_type(response.json(), Any)
            for chunk in response.content.iter_chunked(100):
                assert_type(chunk, bytes)
            for line in response.content:
                assert_type(line, bytes)
        assert_type(session.post("http://localhost", data=b"").result(timeout=3), ClientResponse)
        with session.ws_connect("http://localhost", decode_text=False) as socket:
            socket.send_str("hello")
            assert_type(socket.receive_str(), bytes)
        assert_type(session.closed, bool)


def used_wrongly(session: ClientSession) -> None:
    session.get(1)  # wrong: arg-type, reportArgumentType
    session.get("/", tiemout=3)  # wrong: call-arg, reportCallIssue
    print(session.get("/").status)  # wrong: attr-defined, reportAttributeAccessIssue
    with session.get("/") as response:
        for chunk in response.content.iter_chunked("1"):  # wrong: arg-type, reportArgumentType
            chunk.encode()  # wrong: attr-defined, reportAttributeAccessIssue


async def awaited(session: ClientSession) -> None:
    await session.get("/")  # wrong: misc, reportGeneralTypeIssues
    async with session.get("/"):  # wrong: attr-defined, reportGeneralTypeIssues
        pass
