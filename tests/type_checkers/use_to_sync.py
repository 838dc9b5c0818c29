"""What type checkers make of the faces of `to_sync`. Each misuse is marked with the error it has to be."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any, Self, assert_type

from asyncio_thread_loop import AsyncioThreadLoop, SyncFunction, SyncGenerator, SyncIterator


class Client:
    def __init__(self, name: str) -> None:
        self.name = name

    async def get(self, key: str, *, default: int = 0) -> int:
        return default

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None: ...


async def double(number: int, *, plus: int = 0) -> int:
    await asyncio.sleep(0)
    return 2 * number + plus


async def count(to: int) -> AsyncGenerator[int, str]:
    yield to


async def lines(path: str) -> AsyncIterator[str]:
    yield path


@asynccontextmanager
async def connect(host: str) -> AsyncGenerator[Client, None]:
    yield Client(host)


def use(loop: AsyncioThreadLoop) -> None:
    double_now = loop.to_sync(double)
    assert_type(double_now(1, plus=2), int)
    double_now("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    double_now(1, minus=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    assert_type(double_now.aio(1), Coroutine[Any, Any, int]).close()

    numbers = loop.to_sync(count)(3)
    assert_type(numbers, SyncGenerator[int, str])
    numbers.send(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(next(numbers), int)

    assert_type(loop.to_sync(lines)("path"), SyncIterator[str])
    for line in loop.to_sync(lines)("path"):
        assert_type(line, str)

    opened = loop.to_sync(connect)
    assert_type(opened("host"), AbstractContextManager[Client])
    with opened("host") as client:
        assert_type(client, Client)
    opened(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    bound = loop.to_sync(Client("name").get)
    assert_type(bound("key", default=1), int)

    # Of classes and instances Python's types can't say more.
    SyncClient = loop.to_sync(Client)
    assert_type(SyncClient, type[Any])
    with SyncClient("name") as any_client:
        any_client.get("key")
    loop.to_sync(Client("name")).get("key")


def declared(loop: AsyncioThreadLoop) -> SyncFunction[[str], int, Callable[[str], Coroutine[Any, Any, int]]]:
    async def length(text: str) -> int:
        return len(text)

    return loop.to_sync(length)
