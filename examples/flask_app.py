"""A Flask app whose ordinary views call an async client.

    pip install asyncio-thread-loop aiohttp flask
    python examples/server.py --port 8080 &
    python examples/flask_app.py
    curl http://127.0.0.1:5000/files/report
    curl 'http://127.0.0.1:5000/files?name=a&name=b&name=c'

`flask --app examples/flask_app.py run` works as well. FLASK_UPSTREAM and FLASK_TIMEOUT (seconds)
say where the files come from and how long a request may take.
"""

import argparse
import asyncio
import hashlib
import signal
from typing import Any

import aiohttp
from flask import Flask, abort, request
from werkzeug.exceptions import HTTPException
from werkzeug.serving import make_server

from asyncio_thread_loop import AsyncioThreadLoop


async def hold_session(url: str, *, task_status: Any) -> None:
    """One session for every view, open until the loop ends and cancels this task."""
    async with aiohttp.ClientSession(url) as session:
        task_status.started(session)
        await asyncio.Event().wait()


async def describe(session: aiohttp.ClientSession, name: str) -> dict[str, Any]:
    # The view's context is visible here too, so Flask's `request` is the view's own.
    headers = {"X-Request-ID": request.headers.get("X-Request-ID", "")}
    async with session.get(f"/files/{name}", headers=headers) as response:
        if response.status == 404:
            abort(404, f"no file named {name}")
        response.raise_for_status()
        body = await response.read()
    return {"name": name, "size": len(body), "sha256": hashlib.sha256(body).hexdigest()}


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.from_mapping(UPSTREAM="http://127.0.0.1:8080", TIMEOUT=5.0)
    app.config.from_prefixed_env()
    timeout = app.config["TIMEOUT"]

    # One loop and one session for the process. Nobody has to close them: the loop ends in good
    # order with the interpreter, and the session with the loop.
    loop = AsyncioThreadLoop(name="upstream").start()
    _, session = loop.start_task(hold_session, app.config["UPSTREAM"])

    @app.get("/files/<name>")
    def one(name: str) -> dict[str, Any]:
        return loop.evaluate(describe(session, name), timeout)

    @app.get("/files")
    def many() -> list[dict[str, Any]]:
        names = request.args.getlist("name")
        return loop.evaluate_many((describe(session, name) for name in names), timeout, limit=10)

    # A coroutine's own exception reaches the view, so Flask's error handlers see it.
    @app.errorhandler(TimeoutError)
    def too_slow(error: TimeoutError) -> tuple[dict[str, str], int]:
        return {"error": f"upstream took longer than {timeout} s"}, 504

    @app.errorhandler(aiohttp.ClientError)
    def failed(error: aiohttp.ClientError) -> tuple[dict[str, str], int]:
        return {"error": f"upstream failed: {error}"}, 502

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> tuple[dict[str, str | None], int]:
        return {"error": error.description}, error.code or 500

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description="Describe the files of another server.")
    parser.add_argument("--port", type=int, default=5000, help="0: any free one")
    args = parser.parse_args()

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as with Ctrl-C
    server = make_server("127.0.0.1", args.port, create_app(), threaded=True)
    print(f"http://127.0.0.1:{server.port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
