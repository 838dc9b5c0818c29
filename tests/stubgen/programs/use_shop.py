from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from typing import Any, assert_type

import shop
from faces.shop__client_sync import Cart, Items, SpecialClient
from faces.shop_sync import Client, Connection, Reply, connect
from shop._client import Connection as AsyncConnection
from shop._client import Item
from shop._repository import Order
from shop.money import Price


def name_of(user: str, /, *, again: bool = False) -> str:
    return user


async def name_of_later(user: str, /, *, again: bool = False) -> str:
    return user


def count(connection: Connection) -> int:
    return len(connection.receive())


async def count_later(connection: AsyncConnection) -> int:
    return len(await connection.receive())


def number(item: Item, plus: int) -> int:
    return item.number + plus


async def number_later(item: Item, plus: int) -> int:
    return item.number + plus


def used_well() -> None:
    with connect("localhost", port=8080) as client:
        assert_type(client, Client)
        assert_type(client.fetch("/", raw=True), bytes)
        assert_type(client.fetch("/"), str)
        assert_type(client.balance, Price)
        assert_type(client.timeout, float)
        client.timeout = 3
        assert_type(client.cart, Cart)
        assert_type(client.hook, Callable[[int], str] | None)
        assert_type(client.host, str)
        assert_type(client.default_port, int)
        assert_type(client.version, str)
        started: Future[str] = client.start("/")
        assert_type(started.result(), str)
        assert_type(client.request("/", timeout=3, retries=1).result(), bytes)
        with client.request("/") as connection:
            assert_type(connection, Connection)
            for chunk in connection:
                assert_type(chunk, bytes)
        assert_type(client.on_change(count), int)
        assert_type(client.on_change(count_later), int)
        assert_type(client.pair(), tuple[Connection, list[AsyncConnection]])
        for other, index in client.stream(connection):
            assert_type(other, Connection)
            assert_type(index, int)
        assert_type(client.aio, shop.Client)
        assert_type(Client.aio, type[shop.Client])
        with client.session() as session:
            assert_type(session, Connection)
        client.retried(times=2)
        assert_type(client.untyped(1), Any)
        with suppress(Client.Error):
            client.modern()
    assert_type(Client.local(), Client)
    assert_type(SpecialClient.connected("localhost"), SpecialClient)
    assert_type(SpecialClient("localhost").special(), list[Item])
    assert_type(Client.parse("text", strict=False), dict[str, str])
    Client("localhost", auth=name_of)
    Client("localhost", auth=name_of_later)


def stored(items: Items) -> None:
    assert_type(items.get(1), Item)
    assert_type(items.find(1, "2", order=Order.OLDEST), list[Item])
    for item in items.all():
        assert_type(item, Item)
    with items.locked(1) as locked:
        assert_type(locked, Item)
    locking: AbstractContextManager[Item, bool | None] = items.locked(1)
    assert_type(items.apply(number, 3), int)
    assert_type(items.apply(number_later, plus=3), int)
    assert_type(items.listen(lambda item: None), Callable[[], None])
    assert_type(items.name, str)
    assert_type(items.cached, list[Item])
    assert_type(len(items), int)
    for name in items.names():
        assert_type(name, str)
    print(locking)


def bought(client: Client) -> None:
    cart = Cart(owner="me", notify=lambda cart: None)
    assert_type(cart.buy(Item(1)), Price)
    assert_type(Reply("text").result(timeout=1), bytes)


def used_wrongly(client: Client, items: Items) -> None:
    client.fetch(1)  # wrong: call-overload, reportArgumentType
    client.modern(ancient=1)  # wrong: call-arg, reportCallIssue
    client.request("/", retry=1)  # wrong: call-arg, reportCallIssue
    client.on_change(number)  # wrong: arg-type, reportArgumentType
    Client("localhost", auth=count)  # wrong: arg-type, reportArgumentType
    Client("localhost", 80)  # wrong: call-arg, reportCallIssue
    Client.parse(text="")  # wrong: call-arg, reportCallIssue
    items.apply(number, "3")  # wrong: arg-type, reportArgumentType
    Cart("me")  # wrong: call-arg, reportCallIssue
    for item in items.all():
        print(item.nothing)  # wrong: attr-defined, reportAttributeAccessIssue
    client.pair()[1][0].receive().hex()  # wrong: attr-defined, reportAttributeAccessIssue


async def awaited(client: Client) -> None:
    await client.fetch("/")  # wrong: misc, reportGeneralTypeIssues
    async for _ in client.stream(client.pair()[0]):  # wrong: attr-defined, reportGeneralTypeIssues
        pass
