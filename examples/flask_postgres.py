"""A Flask app whose ordinary views use PostgreSQL through asyncpg.

    pip install asyncio-thread-loop asyncpg flask
    FLASK_DATABASE=postgresql://user@host/database python examples/flask_postgres.py
    curl -d name=ada -d balance=100 http://127.0.0.1:5000/accounts
    curl -d name=bob -d balance=100 http://127.0.0.1:5000/accounts
    curl -d source=ada -d target=bob -d amount=30 http://127.0.0.1:5000/transfers
    curl http://127.0.0.1:5000/accounts

Without FLASK_DATABASE it reads the variables psql reads (PGHOST, PGUSER, ...). FLASK_TIMEOUT says
how many seconds a request may take. It makes a table named `example_app_accounts`.
"""

import argparse
import asyncio
import signal
from typing import Any

import asyncpg
from flask import Flask, abort, request
from werkzeug.exceptions import HTTPException
from werkzeug.serving import make_server

from asyncio_thread_loop import AsyncioThreadLoop

SCHEMA = """
create table if not exists example_app_accounts
    (name text primary key, balance int not null check (balance >= 0))
"""


async def hold_pool(dsn: str | None, *, task_status: Any) -> None:
    """One pool for every view, open until the loop ends and cancels this task."""
    # min_size=0: connections are made when a view needs one, so a database that is away for a
    # while is met where it can be answered for.
    async with asyncpg.create_pool(dsn, min_size=0, max_size=10) as pool:
        await pool.execute(SCHEMA)
        task_status.started(pool)
        await asyncio.Event().wait()


async def transfer(pool: asyncpg.Pool, source: str, target: str, amount: int) -> dict[str, int]:
    """Both updates or none. Returns the new balances."""
    async with pool.acquire() as connection, connection.transaction():
        # Locked in the order of their names, so two transfers never wait for each other.
        locked = await connection.fetch(
            "select name from example_app_accounts where name in ($1, $2) order by name for update",
            source,
            target,
        )
        if {row["name"] for row in locked} != {source, target}:
            abort(404, "no such account")
        rows = await connection.fetch(
            "update example_app_accounts"
            " set balance = balance + case name when $1 then -$3::int else $3::int end"
            " where name in ($1, $2) returning name, balance",
            source,
            target,
            amount,
        )
    return {row["name"]: row["balance"] for row in rows}


def amount_in_form(field: str) -> int:
    amount = request.form.get(field, type=int)
    if amount is None or not 0 < amount < 2**31:
        abort(400, f"{field} must be a positive whole number")
    return amount


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.from_mapping(DATABASE=None, TIMEOUT=5.0)
    app.config.from_prefixed_env()
    timeout = app.config["TIMEOUT"]

    # One loop and one pool for the process. Nobody has to close them: the loop ends in good
    # order with the interpreter, and the pool with the loop.
    loop = AsyncioThreadLoop(name="postgres").start()
    _, pool = loop.start_task(hold_pool, app.config["DATABASE"])

    @app.get("/accounts")
    def list_accounts() -> dict[str, int]:
        rows = loop.evaluate(pool.fetch("select * from example_app_accounts"), timeout)
        return {row["name"]: row["balance"] for row in rows}

    @app.post("/accounts")
    def open_account() -> tuple[dict[str, int], int]:
        name, balance = request.form["name"], amount_in_form("balance")
        insert = "insert into example_app_accounts values ($1, $2)"
        loop.evaluate(pool.execute(insert, name, balance), timeout)
        return {name: balance}, 201

    @app.post("/transfers")
    def make_transfer() -> dict[str, int]:
        source, target = request.form["source"], request.form["target"]
        if source == target:
            abort(400, "source and target must differ")
        return loop.evaluate(transfer(pool, source, target, amount_in_form("amount")), timeout)

    # A coroutine's own exception reaches the view, so Flask's error handlers see it.
    @app.errorhandler(asyncpg.UniqueViolationError)
    def taken(error: Exception) -> tuple[dict[str, str], int]:
        return {"error": "there is an account of that name"}, 409

    @app.errorhandler(asyncpg.CheckViolationError)
    def overdrawn(error: Exception) -> tuple[dict[str, str], int]:
        return {"error": "not enough money"}, 409

    @app.errorhandler(OSError)
    @app.errorhandler(asyncpg.PostgresConnectionError)
    @app.errorhandler(asyncpg.CannotConnectNowError)
    def unavailable(error: Exception) -> tuple[dict[str, str], int]:
        return {"error": "the database does not answer"}, 503

    @app.errorhandler(TimeoutError)
    def too_slow(error: Exception) -> tuple[dict[str, str], int]:
        return {"error": f"the database took longer than {timeout} s"}, 504

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> tuple[dict[str, str | None], int]:
        return {"error": error.description}, error.code or 500

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description="Keep accounts in PostgreSQL.")
    parser.add_argument("--port", type=int, default=5000, help="0: any free one")
    args = parser.parse_args()

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as with Ctrl-C
    server = make_server("127.0.0.1", args.port, create_app(), threaded=True)
    print(f"http://127.0.0.1:{server.port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
