"""PostgreSQL through asyncpg: transactions as `with` blocks, and a cursor that a `for` loop reads.

    pip install asyncio-thread-loop asyncpg
    python examples/postgres_cursor.py postgresql://user@host/database

Without an argument it reads DATABASE_URL, then the variables psql reads (PGHOST, PGUSER, ...).
It makes one table, `example_events`, and drops it at the end.
"""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from asyncio_thread_loop import AsyncioThreadLoop

OPEN_CURSORS = "select count(*) from pg_cursors where name <> ''"


@contextmanager
def transaction(loop: AsyncioThreadLoop, pool: asyncpg.Pool) -> Iterator[asyncpg.Connection]:
    """A connection of the pool in a transaction, which an exception in the body rolls back."""
    with (
        loop.wrap_async_context_manager(pool.acquire()) as connection,
        loop.wrap_async_context_manager(connection.transaction()),
    ):
        yield connection


def change_your_mind(loop: AsyncioThreadLoop, pool: asyncpg.Pool) -> None:
    try:
        with transaction(loop, pool) as connection:
            loop.evaluate(connection.execute("delete from example_events"))
            left = loop.evaluate(connection.fetchval("select count(*) from example_events"))
            print(f"deleted, {left} events left")
            raise RuntimeError("changed my mind")
    except RuntimeError:
        left = loop.evaluate(pool.fetchval("select count(*) from example_events"))
        print(f"rolled back, {left} events left")


def read_a_few(loop: AsyncioThreadLoop, pool: asyncpg.Pool) -> None:
    # nextval() counts the rows that the server has come to. Those that no cursor has asked for don't exist yet.
    query = "select id, nextval('example_rows') from example_events order by id"
    with transaction(loop, pool) as connection:
        # This one asks for 100 rows at a time.
        for row in loop.iterate(connection.cursor(query, prefetch=100)):
            if row["id"] == 250:
                break
        made = loop.evaluate(connection.fetchval("select last_value from example_rows"))
        print(f"read to event {row['id']}, the server has made {made} rows")
        during = loop.evaluate(connection.fetchval(OPEN_CURSORS))
    # A server-side cursor lives as long as its transaction.
    after = loop.evaluate(pool.fetchval(OPEN_CURSORS))
    print(f"open cursors: {during} in the transaction, {after} after it")


def read_all(loop: AsyncioThreadLoop, pool: asyncpg.Pool) -> None:
    with transaction(loop, pool) as connection:
        # A `prefetch` of the loop's own fetches the next rows while these are looked at.
        rows = loop.iterate(connection.cursor("select id from example_events"), prefetch=200)
        print("sum of all:", sum(row["id"] for row in rows))
    print("connections in use:", pool.get_size() - pool.get_idle_size())


def main() -> None:
    parser = argparse.ArgumentParser(description="Read a table of any size, row by row.")
    parser.add_argument("dsn", nargs="?", default=os.environ.get("DATABASE_URL"))
    args = parser.parse_args()

    with AsyncioThreadLoop() as loop:
        # Made on the loop's thread, where it finds its loop. It is closed when the loop is left.
        pool = loop.enter_async_context(loop.call(asyncpg.create_pool, args.dsn, min_size=1, max_size=1))
        loop.evaluate(
            pool.execute(
                "create table example_events as select generate_series(1, 100000) as id;"
                "create index on example_events (id);"
                "create sequence example_rows"
            )
        )
        try:
            change_your_mind(loop, pool)
            read_a_few(loop, pool)
            read_all(loop, pool)
        finally:
            loop.evaluate(pool.execute("drop table example_events; drop sequence example_rows"))


if __name__ == "__main__":
    main()
