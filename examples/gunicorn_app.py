"""A Flask app for gunicorn's forked workers: one loop, and one client session in each process.

    pip install asyncio-thread-loop aiohttp flask gunicorn
    python examples/server.py --port 8080 &
    gunicorn --chdir examples --preload --workers 4 gunicorn_app:app
    curl http://127.0.0.1:8000/files/report

It works without --preload as well. UPSTREAM says where the files come from.
"""

import asyncio
import os
from typing import Any

import aiohttp
from flask import Flask

from asyncio_thread_loop import AsyncioThreadLoop

UPSTREAM = os.environ.get("UPSTREAM", "http://127.0.0.1:8080")

session: asyncio.Future[aiohttp.ClientSession]
holder: asyncio.Task[None]


def begin() -> None:
    """On the loop's thread, before any work: here, and again in each worker that uses the loop."""
    global session, holder
    session = asyncio.get_running_loop().create_future()
    holder = asyncio.ensure_future(hold_session(session))


async def hold_session(ready: asyncio.Future[aiohttp.ClientSession]) -> None:
    """Open until the loop ends and cancels this task."""
    async with aiohttp.ClientSession(UPSTREAM) as opened:
        ready.set_result(opened)
        await asyncio.Event().wait()


async def size(name: str) -> int:
    async with (await session).get(f"/files/{name}") as response:
        response.raise_for_status()
        return len(await response.read())


loop = AsyncioThreadLoop(exit_timeout=10, initializer=begin).start()

# With --preload this is called once, in the process that forks the workers.
SIZE_OF_MOTD = loop.evaluate(size("motd"))

app = Flask(__name__)


@app.get("/files/<name>")
def describe(name: str) -> dict[str, Any]:
    return {"name": name, "size": loop.evaluate(size(name), timeout=5), "motd": SIZE_OF_MOTD}
