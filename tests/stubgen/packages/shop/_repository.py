"""Generic bases, as a library of its own would have them."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Concatenate, Generic, ParamSpec, Protocol, TypeVar

T = TypeVar("T")
K = TypeVar("K", int, str)
P = ParamSpec("P")

Key = int | str
Listener = Callable[[T], Awaitable[None]]


class Order(enum.Enum):
    NEWEST = "newest"
    OLDEST = "oldest"


class Authenticator(Protocol):
    """Asked before every call."""

    async def __call__(self, user: str, /, *, again: bool = False) -> str: ...


class Repository(ABC, Generic[T]):
    """Keeps objects."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cached: list[T] = []
        self._hidden: list[T] = []

    @abstractmethod
    async def get(self, key: Key) -> T:
        """The object of a key.

        Raises `KeyError` if there is "none", or a back\\slash.
        """

    async def find(self, *keys: Key, order: Order = Order.NEWEST, limit: int = -1) -> list[T]:
        return [await self.get(key) for key in keys]

    async def all(self) -> AsyncIterator[T]:
        yield await self.get(0)

    async def apply(
        self, fn: Callable[Concatenate[T, P], Awaitable[K]], *args: P.args, **kwargs: P.kwargs
    ) -> K:
        return await fn(await self.get(0), *args, **kwargs)

    def listen(self, listener: Listener[T]) -> Callable[[], None]:
        return lambda: None

    def names(self) -> Iterator[str]:
        yield self.name

    @asynccontextmanager
    async def locked(self, key: Key) -> AsyncIterator[T]:
        yield await self.get(key)

    def __len__(self) -> int:
        return len(self.cached)
