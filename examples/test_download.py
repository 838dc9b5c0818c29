"""Tests with the fixture `sync_loop`: plain test functions, a real server, and nothing left behind.

    pip install asyncio-thread-loop aiohttp pytest
    pytest examples/test_download.py

The server runs on the loop of the test, and so does the client: both end before the loop does.
"""

import contextlib
import hashlib

import aiohttp
import pytest
from aiohttp import web
from server import content, send_file

FILES = 200


@contextlib.asynccontextmanager
async def serve(app):
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield runner.addresses[0]
    finally:
        await runner.cleanup()


async def fetch(session, name):
    async with session.get(f"/files/{name}") as response:
        return await response.read()


@pytest.fixture
def sync_loop_options():
    """The loop on which these tests run: `{"loop_factory": uvloop.new_event_loop}` makes it another."""
    return {"exit_timeout": 10}


@pytest.fixture
def address(sync_loop):
    app = web.Application()
    app.router.add_get("/files/{name}", send_file)
    with sync_loop.wrap_async_context_manager(serve(app)) as (host, port):
        yield f"http://{host}:{port}"


@pytest.fixture
def session(sync_loop, address):
    # Made on the loop, where aiohttp looks for a running one.
    async def connect():
        return aiohttp.ClientSession(address)

    with sync_loop.wrap_async_context_manager(sync_loop.evaluate(connect())) as session:
        yield session


def test_a_file_follows_from_its_name(sync_loop, session):
    assert sync_loop.evaluate(fetch(session, "report")) == content("report")


def test_many_files_arrive_whole(sync_loop, session):
    names = [f"file-{number}" for number in range(FILES)]
    files = sync_loop.evaluate_many((fetch(session, name) for name in names), limit=50)
    for name, file in zip(names, files, strict=True):
        assert hashlib.sha256(file).digest() == hashlib.sha256(content(name)).digest()
