"""The examples with PostgreSQL, against a server that the tests start."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier

import asyncpg
import pytest
from postgres_server import PostgresServer
from running_examples import Answer, http, run_example, serve_example

THREADS = 32

REPORT = """\
inserted 1000 accounts holding 100000
transferred 30, balances are 70 130
transfer of 500 rolled back, balances are 70 130
query cancelled after 0.2 s
same connection still usable: True
"""


def query(postgres: PostgresServer, sql: str) -> list[asyncpg.Record]:
    async def run() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(postgres.dsn)
        try:
            rows: list[asyncpg.Record] = await connection.fetch(sql)
            return rows
        finally:
            await connection.close()

    return asyncio.run(run())


def test_the_script_does_its_work_and_leaves_the_database_as_it_was(postgres: PostgresServer) -> None:
    assert run_example("postgres.py", postgres.dsn).stdout == REPORT
    assert query(postgres, "select 1 from pg_tables where tablename = 'example_accounts'") == []
    asleep = "select 1 from pg_stat_activity where query like 'select pg_sleep%'"
    assert query(postgres, asleep) == []


def test_the_script_takes_the_database_from_the_environment(postgres: PostgresServer) -> None:
    assert run_example("postgres.py", DATABASE_URL=postgres.dsn).stdout == REPORT


def test_transactions_roll_back_and_a_cursor_takes_only_what_is_read(postgres: PostgresServer) -> None:
    # 250 rows were read, 100 at a time.
    assert run_example("postgres_cursor.py", postgres.dsn).stdout == (
        "deleted, 0 events left\n"
        "rolled back, 100000 events left\n"
        "read to event 250, the server has made 300 rows\n"
        "open cursors: 1 in the transaction, 0 after it\n"
        "sum of all: 5000050000\n"
        "connections in use: 0\n"
    )
    assert query(postgres, "select 1 from pg_class where relname like 'example%'") == []


def test_sqlalchemy_runs_on_one_thread_for_all_that_call(postgres: PostgresServer) -> None:
    # SQLAlchemy's greenlets stay on the loop's thread: elsewhere they raise MissingGreenlet.
    assert run_example("sqlalchemy_threads.py", postgres.dsn).stdout == (
        "books written by each thread: 25 25 25 25 25 25 25 25\n"
        "rolled back: the name is taken\n"
        "authors: 8\n"
        "books: 200\n"
        + "".join(f"- author {number}\n" for number in range(8))
        + "every statement ran on the thread of: database\n"
    )
    assert query(postgres, "select 1 from pg_class where relname like 'example%'") == []


@pytest.fixture
def app(postgres: PostgresServer) -> Iterator[str]:
    with serve_example("flask_postgres.py", "--port", "0", FLASK_DATABASE=postgres.dsn) as url:
        yield url
    query(postgres, "drop table example_app_accounts")


def open_account(app: str, name: str, balance: int) -> Answer:
    return http(f"{app}/accounts", form={"name": name, "balance": balance})


def transfer(app: str, source: str, target: str, amount: object) -> Answer:
    return http(f"{app}/transfers", form={"source": source, "target": target, "amount": amount})


def test_a_transfer_changes_both_balances_or_none(app: str) -> None:
    assert open_account(app, "ada", 100) == (201, {"ada": 100})
    assert open_account(app, "bob", 100) == (201, {"bob": 100})
    assert transfer(app, "ada", "bob", 30) == (200, {"ada": 70, "bob": 130})
    assert transfer(app, "ada", "bob", 71) == (409, {"error": "not enough money"})
    assert http(f"{app}/accounts") == (200, {"ada": 70, "bob": 130})


def test_bad_requests_are_refused_and_change_nothing(app: str) -> None:
    open_account(app, "ada", 100)
    open_account(app, "bob", 100)
    assert open_account(app, "ada", 1)[0] == 409
    assert transfer(app, "ada", "nobody", 1)[0] == 404
    assert transfer(app, "ada", "ada", 1)[0] == 400
    for amount in ("-1", "0", "much", 2**31):
        assert transfer(app, "ada", "bob", amount)[0] == 400
    assert http(f"{app}/accounts") == (200, {"ada": 100, "bob": 100})


def test_thirty_two_threads_transfer_at_once_and_no_money_is_lost(app: str) -> None:
    names = [f"account-{number}" for number in range(8)]
    for name in names:
        open_account(app, name, 50)
    barrier = Barrier(THREADS)

    def work(thread: int) -> list[int]:
        source = names[thread % 8]
        targets = [names[(thread + step) % 8] for step in range(1, 8)]
        barrier.wait()
        return [transfer(app, source, target, 10 + thread)[0] for target in targets]

    with ThreadPoolExecutor(THREADS) as pool:
        statuses = [status for some in pool.map(work, range(THREADS)) for status in some]
    assert len(statuses) == THREADS * 7
    assert set(statuses) <= {200, 409}
    assert 200 in statuses
    balances = http(f"{app}/accounts")[1]
    assert sum(balances.values()) == 8 * 50
    assert min(balances.values()) >= 0


def test_transfers_that_wait_too_long_for_a_lock_time_out_and_are_rolled_back(
    app: str, postgres: PostgresServer
) -> None:
    open_account(app, "ada", 100)
    open_account(app, "bob", 100)
    # More than the pool has connections, so some wait for one of those.
    callers = 16

    async def transfer_while_locked(impatient_app: str) -> list[Answer]:
        connection = await asyncpg.connect(postgres.dsn)
        try:
            async with connection.transaction():
                await connection.fetch("select 1 from example_app_accounts where name = 'bob' for update")
                ask = partial(transfer, impatient_app, "ada", "bob", 1)
                with ThreadPoolExecutor(callers) as pool:
                    run = asyncio.get_running_loop().run_in_executor
                    return await asyncio.gather(*(run(pool, ask) for _ in range(callers)))
        finally:
            await connection.close()

    with serve_example(
        "flask_postgres.py", "--port", "0", FLASK_DATABASE=postgres.dsn, FLASK_TIMEOUT="1"
    ) as impatient_app:
        answers = asyncio.run(transfer_while_locked(impatient_app))
        assert answers == [(504, {"error": "the database took longer than 1 s"})] * callers
        assert http(f"{app}/accounts") == (200, {"ada": 100, "bob": 100})
        assert transfer(impatient_app, "ada", "bob", 1) == (200, {"ada": 99, "bob": 101})


def test_views_say_so_while_the_database_is_down_and_work_again_when_it_is_back(
    app: str, postgres: PostgresServer
) -> None:
    open_account(app, "ada", 100)
    postgres.stop()
    try:
        assert http(f"{app}/accounts") == (503, {"error": "the database does not answer"})
    finally:
        postgres.start()
    assert http(f"{app}/accounts") == (200, {"ada": 100})
