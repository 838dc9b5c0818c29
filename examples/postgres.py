"""PostgreSQL through asyncpg, from a plain synchronous script.

    pip install asyncio-thread-loop asyncpg
    python examples/postgres.py postgresql://user@host/database

Without an argument it reads DATABASE_URL, then the variables psql reads (PGHOST, PGUSER, ...).
It makes one table, `example_accounts`, and drops it at the end.
"""

import argparse
import asyncio
import os
from typing import Any

import asyncpg

from asyncio_thread_loop import AsyncioThreadLoop


async def hold_pool(dsn: str | None, *, task_status: Any) -> None:
    """One pool for everybody, open until the loop ends and cancels this task."""
    async with asyncpg.create_pool(dsn, min_size=1, max_size=10) as pool:
        task_status.started(pool)
        await asyncio.Event().wait()


async def transfer(pool: asyncpg.Pool, source: int, target: int, amount: int) -> None:
    """Both updates or none: an error leaves the `async with`, which rolls back."""
    update = "update example_accounts set balance = balance + $2 where id = $1"
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(update, target, amount)
        await connection.execute(update, source, -amount)


def create_accounts(loop: AsyncioThreadLoop, pool: asyncpg.Pool) -> None:
    loop.evaluate(
        pool.execute(
            "create table example_accounts (id int primary key, balance int not null check (balance >= 0))"
        )
    )
    insert = "insert into example_accounts values ($1, 100)"
    # A pool's methods are coroutine functions: what they return can be evaluated as it is.
    loop.evaluate_many((pool.execute(insert, number) for number in range(1000)), limit=10)
    count, total = loop.evaluate(pool.fetchrow("select count(*), sum(balance) from example_accounts"))
    print(f"inserted {count} accounts holding {total}")


def transfer_money(loop: AsyncioThreadLoop, pool: asyncpg.Pool) -> None:
    def balances() -> tuple[int, int]:
        rows = loop.evaluate(
            pool.fetch("select balance from example_accounts where id in (1, 2) order by id")
        )
        return rows[0]["balance"], rows[1]["balance"]

    loop.evaluate(transfer(pool, source=1, target=2, amount=30))
    print("transferred 30, balances are", *balances())
    try:
        loop.evaluate(transfer(pool, source=1, target=2, amount=500))
    except asyncpg.CheckViolationError:
        print("transfer of 500 rolled back, balances are", *balances())


def give_up_a_slow_query(loop: AsyncioThreadLoop, pool: asyncpg.Pool) -> None:
    connection = loop.evaluate(pool.acquire())
    try:
        before = loop.evaluate(connection.fetchval("select pg_backend_pid()"))
        try:
            loop.evaluate(connection.execute("select pg_sleep(3600)"), timeout=0.2)
        except TimeoutError:
            print("query cancelled after 0.2 s")
        after = loop.evaluate(connection.fetchval("select pg_backend_pid()"))
        print("same connection still usable:", before == after)
    finally:
        loop.evaluate(pool.release(connection))


def main() -> None:
    parser = argparse.ArgumentParser(description="Use PostgreSQL without writing async code.")
    parser.add_argument("dsn", nargs="?", default=os.environ.get("DATABASE_URL"))
    args = parser.parse_args()

    with AsyncioThreadLoop() as loop:
        _, pool = loop.start_task(hold_pool, args.dsn)
        create_accounts(loop, pool)
        try:
            transfer_money(loop, pool)
            give_up_a_slow_query(loop, pool)
        finally:
            loop.evaluate(pool.execute("drop table example_accounts"))


if __name__ == "__main__":
    main()
