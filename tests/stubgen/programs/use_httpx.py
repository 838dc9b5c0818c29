from typing import assert_type

import httpx
from faces.httpx_sync import AsyncClient, Response


def used_well() -> None:
    with AsyncClient(base_url="http://localhost", timeout=3) as client:
        assert_type(client, AsyncClient)
        response = client.get("/", params={"page": 1}, headers={"accept": "text/plain"})
        assert_type(response, Response)
        assert_type(response.status_code, int)
        assert_type(response.aread(), bytes)
        assert_type(response.raise_for_status(), Response)
        with client.stream("GET", "/") as streamed:
            assert_type(streamed, Response)
            for line in streamed.aiter_lines():
                assert_type(line, str)
        client.timeout = 5.0
        assert_type(client.timeout, httpx.Timeout)
        assert_type(client.aio, httpx.AsyncClient)
        assert_type(AsyncClient.aio, type[httpx.AsyncClient])


def used_wrongly(client: AsyncClient) -> None:
    client.get(1)  # wrong: arg-type, reportArgumentType
    client.get("/", nonsense=1)  # wrong: call-arg, reportCallIssue
    client.fetch("/")  # wrong: attr-defined, reportAttributeAccessIssue
    length: int = client.get("/").text  # wrong: assignment, reportAssignmentType
    print(length)


async def awaited(client: AsyncClient) -> None:
    await client.get("/")  # wrong: misc, reportGeneralTypeIssues
    async with client:  # wrong: attr-defined, reportGeneralTypeIssues
        pass
