from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self, TypedDict, TypeVar, Unpack, overload

from ._repository import Authenticator, Repository

if TYPE_CHECKING:
    from types import TracebackType

    from .money import Price

F = TypeVar("F", bound=Callable[..., Any])


def traced(fn: F) -> F:
    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return wrapper  # type: ignore[return-value]


class Options(TypedDict, total=False):
    timeout: float
    retries: int


@dataclass
class Item:
    number: int
    name: str = "item"
    tags: list[str] = field(default_factory=list)


class Items(Repository[Item]):
    """The items of the shop."""

    async def get(self, key: int | str) -> Item:
        return Item(int(key))


@dataclass(slots=True, kw_only=True)
class Cart:
    """What is bought, and who is told."""

    owner: str
    notify: Callable[[Cart], Awaitable[None]] | None = None
    prices: dict[str, Price] = field(default_factory=dict)

    async def buy(self, item: Item) -> Price:
        raise NotImplementedError


class Reply:
    """Awaited or entered."""

    def __init__(self, text: str) -> None:
        self.text: Final = text

    def __await__(self) -> Generator[Any, None, bytes]:
        return self._answer().__await__()

    async def _answer(self) -> bytes:
        return self.text.encode()

    async def __aenter__(self) -> Connection:
        return Connection()

    async def __aexit__(self, *args: object) -> None:
        return None


class Connection:
    __slots__ = ("host",)

    host: str

    async def receive(self) -> bytes:
        return b""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        return b""


class Client:
    """A client of the shop.

    >>> Client("host")
    """

    default_port: ClassVar[int] = 80
    version = "1.0"

    class Error(Exception):
        """What goes wrong."""

    def __init__(self, host: str, *, port: int = 80, auth: Authenticator | None = None) -> None:
        self.host = host
        self.items = Items("items")

    @classmethod
    def local(cls) -> Self:
        """A client of this machine."""
        return cls("localhost")

    @classmethod
    async def connected(cls, host: str) -> Self:
        return cls(host)

    @staticmethod
    def parse(text: str, /, strict: bool = True) -> dict[str, str]:
        return {}

    @property
    def timeout(self) -> float:
        """Seconds."""
        return 1.0

    @timeout.setter
    def timeout(self, value: float) -> None:
        pass

    @property
    async def balance(self) -> Price:
        raise NotImplementedError

    @property
    def hook(self) -> Callable[[int], Awaitable[str]] | None:
        return None

    @functools.cached_property
    def cart(self) -> Cart:
        return Cart(owner=self.host)

    @overload
    async def fetch(self, path: str, *, raw: Literal[True]) -> bytes: ...
    @overload
    async def fetch(self, path: str, *, raw: Literal[False] = ...) -> str: ...
    async def fetch(self, path: str, *, raw: bool = False) -> bytes | str:
        """What is at a path."""
        return ""

    def request(self, path: str, **options: Unpack[Options]) -> Reply:
        return Reply(path)

    def start(self, path: str) -> asyncio.Task[str]:
        raise NotImplementedError

    @traced
    async def retried(self, times: int = 3) -> None:
        """Decorated."""

    async def on_change(self, callback: Callable[[Connection], Awaitable[int]]) -> int:
        return await callback(Connection())

    async def stream(self, connection: Connection) -> AsyncIterator[tuple[Connection, int]]:
        yield connection, 1

    def session(self) -> contextlib._AsyncGeneratorContextManager[Connection]:
        raise NotImplementedError

    async def pair(self) -> tuple[Connection, list[Connection]]:
        return Connection(), []

    async def untyped(self, value, other=None):
        return value

    def unknown(self, thing: NoSuchName) -> Awaitable[int]:  # type: ignore[name-defined]  # noqa: F821
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool | None:
        return None

    if sys.version_info >= (3, 11) and TYPE_CHECKING:

        async def modern(self) -> None: ...

    else:

        async def modern(self, ancient: int) -> None: ...


class SpecialClient(Client):
    async def special(self) -> list[Item]:
        return []


async def connect(host: str, *, port: int = 80) -> Client:
    """Connects."""
    return Client(host, port=port)


def not_async(value: int) -> int:
    return value
