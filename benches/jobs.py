"""The choice one really has: the same downloads written synchronously, with threads, with asyncio, and with this.

The blocking ways use `http.client` with a connection for each thread, the others one `aiohttp.ClientSession`.
"""

from __future__ import annotations

import asyncio
import http.client
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from statistics import median

from asyncio_thread_loop import AsyncioThreadLoop

from .measuring import Table, forget_peak, in_fresh_process, resident, status
from .servers import BODY, LATENCY, allow_many_connections, server

REQUESTS = 1000

SYNCHRONOUS = "synchronous"
POOL = "ThreadPoolExecutor, {} threads"
ASYNCIO_RUN = "asyncio.run"
OURS = "AsyncioThreadLoop"


def measure(quick: bool) -> list[Table]:
    requests, rounds = (40, 1) if quick else (REQUESTS, 5)
    jobs = {
        SYNCHRONOUS: synchronous,
        **{POOL.format(threads): partial(in_threads, threads) for threads in (requests // 10, requests)},
        ASYNCIO_RUN: with_asyncio,
        OURS: with_ours,
        f"{OURS}, limit={requests // 10}": partial(with_ours, limit=requests // 10),
    }
    took = {name: [] for name in jobs}
    with server("http") as port:
        for number in range(rounds):
            for name, job in jobs.items():
                # Waiting is all it does: once tells it.
                if name != SYNCHRONOUS or number == 0:
                    took[name].append(in_fresh_process(None, once, job, port, requests))
    rows = {name: [median(values) for values in zip(*each, strict=True)] for name, each in took.items()}
    ours = rows[OURS][0]
    table = Table(
        f"{requests:,} HTTP requests that take {1e3 * LATENCY:g} ms each",
        {
            "seconds": ".2f",
            "times ours": ".2f",
            "processor, s": ".2f",
            "peak memory, MiB": ",.1f",
        },
        {
            name: [seconds, seconds / ours, processor, peak / 2**20]
            for name, (seconds, processor, peak) in rows.items()
        },
    )
    return [table]


def once(job: Callable[[int, int], list[bytes]], port: int, requests: int) -> tuple[float, float, int]:
    """Seconds, seconds of processor time, and bytes of memory at the peak more than before."""
    import aiohttp  # noqa: F401  here, and not on a loop

    allow_many_connections()
    job(port, 1)
    before = resident()
    forget_peak()
    burnt, began = time.process_time(), time.perf_counter()
    bodies = job(port, requests)
    took, processor = time.perf_counter() - began, time.process_time() - burnt
    assert bodies == [BODY] * requests
    return took, processor, status("VmHWM") - before


# The job, four times.


class Connections(threading.local):
    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port)


def get(connections: Connections) -> bytes:
    connections.connection.request("GET", "/")
    return connections.connection.getresponse().read()


def synchronous(port: int, requests: int) -> list[bytes]:
    connections = Connections(port)
    return [get(connections) for _ in range(requests)]


def in_threads(threads: int, port: int, requests: int) -> list[bytes]:
    connections = Connections(port)
    with ThreadPoolExecutor(threads) as executor:
        return list(executor.map(lambda _: get(connections), range(requests)))


def with_asyncio(port: int, requests: int) -> list[bytes]:
    async def main() -> list[bytes]:
        async with client_session() as session:
            return await asyncio.gather(*(fetch(session, port) for _ in range(requests)))

    return asyncio.run(main())


def with_ours(port: int, requests: int, limit: int | None = None) -> list[bytes]:
    with AsyncioThreadLoop() as loop:
        session = loop.enter_async_context(client_session())
        return loop.evaluate_many((fetch(session, port) for _ in range(requests)), limit=limit)


@asynccontextmanager
async def client_session():
    from aiohttp import ClientSession, TCPConnector

    async with ClientSession(connector=TCPConnector(limit=0)) as session:
        yield session


async def fetch(session, port: int) -> bytes:
    async with session.get(f"http://127.0.0.1:{port}/") as response:
        return await response.read()
