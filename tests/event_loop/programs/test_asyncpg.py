"""asyncpg and a PostgreSQL server of the tests, through its Unix socket and over TLS."""

import asyncio
import contextlib
import hashlib
import io
import ssl

import asyncpg
import pytest

ASLEEP = "select count(*) from pg_stat_activity where query like 'select pg_sleep(%' and state = 'active'"
"""How many queries are, in the whole server."""


@pytest.fixture(params=["Unix", "TLS"])
def dsn(request, postgres):
    """How to connect."""
    return postgres.dsn if request.param == "Unix" else postgres.tls_dsn


@pytest.fixture
def with_connection(run, dsn):
    """Run a coroutine function with a connection of its own."""

    def with_connection(function):
        async def main():
            connection = await asyncpg.connect(dsn)
            try:
                return await function(connection)
            finally:
                await connection.close(timeout=10)

        return run(main())

    return with_connection


@contextlib.asynccontextmanager
async def listening(connection, channel):
    """What is notified there, in a queue."""
    heard = asyncio.Queue()

    def hear(connection, pid, channel, payload):
        heard.put_nowait(payload)

    await connection.add_listener(channel, hear)
    yield heard
    await connection.remove_listener(channel, hear)


def test_a_transaction_is_kept_or_rolled_back(with_connection):
    async def main(connection):
        await connection.execute("create temporary table numbers (number int)")
        insert = "insert into numbers values ($1)"
        async with connection.transaction():
            await connection.execute(insert, 1)
            with pytest.raises(ZeroDivisionError):
                async with connection.transaction():  # a savepoint
                    await connection.execute(insert, 2)
                    raise ZeroDivisionError
            await connection.execute(insert, 3)
        with pytest.raises(asyncpg.DivisionByZeroError):
            async with connection.transaction():
                await connection.execute(insert, 4)
                await connection.execute("select 1 / 0")
        return [row["number"] for row in await connection.fetch("select number from numbers order by 1")]

    assert with_connection(main) == [1, 3]


def test_rows_are_copied_in_and_out(with_connection):
    count = 100_000

    async def main(connection):
        await connection.execute("create temporary table numbers (number int, word text)")
        rows = [(number, f"number {number}") for number in range(count)]
        assert await connection.copy_records_to_table("numbers", records=rows) == f"COPY {count}"
        out = io.BytesIO()
        done = await connection.copy_from_query(
            "select * from numbers order by number", output=out, format="csv"
        )
        assert done == f"COPY {count}"
        out.seek(0)
        await connection.copy_to_table("numbers", source=out, format="csv")
        sums = await connection.fetchrow("select count(*), sum(number), sum(length(word)) from numbers")
        return out.getvalue(), tuple(sums)

    text, (rows, total, letters) = with_connection(main)
    expected = "".join(f"{number},number {number}\n" for number in range(count))
    assert text == expected.encode()
    assert (rows, total) == (2 * count, count * (count - 1))
    assert letters == 2 * sum(len(f"number {number}") for number in range(count))


def test_a_large_value_goes_there_and_back(with_connection, noise):
    data = noise(30_000_000)

    async def main(connection):
        return await connection.fetchrow("select $1::bytea as data, length($1::bytea) as length", data)

    row = with_connection(main)
    assert row["length"] == len(data)
    assert row["data"] == data


def test_a_cursor_reads_piece_by_piece(with_connection):
    async def main(connection):
        async with connection.transaction():
            query = "select number from generate_series(1, 20000) number"
            return [row["number"] async for row in connection.cursor(query, prefetch=100)]

    assert with_connection(main) == list(range(1, 20001))


def test_notifications_come_in_order(run, dsn):
    async def main():
        hearing, saying = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
        async with listening(hearing, "news") as heard:
            async with saying.transaction():
                for number in range(500):
                    await saying.execute("select pg_notify('news', $1)", str(number))
                assert heard.empty()  # they are sent when the transaction is done
            words = [await heard.get() for _ in range(500)]
            assert await hearing.fetchval("select 42") == 42
        await saying.execute("notify news, 'too late'")
        await hearing.close()
        await saying.close()
        return words, heard.empty()

    assert run(main()) == ([str(number) for number in range(500)], True)


def test_a_pool_serves_more_than_it_has(run, dsn):
    async def main():
        async with asyncpg.create_pool(dsn, min_size=2, max_size=5) as pool:
            most = using = 0
            full = asyncio.Event()

            async def ask(number):
                nonlocal most, using
                async with pool.acquire() as connection:
                    using += 1
                    most = max(most, using)
                    if using == 5:
                        full.set()
                    await full.wait()
                    row = await connection.fetchrow("select 2 * $1::int, pg_backend_pid()", number)
                    using -= 1
                    return tuple(row)

            answers = await asyncio.gather(*map(ask, range(300)))
        return [number for number, _ in answers], len({pid for _, pid in answers}), most

    numbers, backends, most = run(main())
    assert numbers == [2 * number for number in range(300)]
    assert (backends, most) == (5, 5)


def test_money_is_neither_made_nor_lost_by_transfers_at_once(run, dsn):
    async def main():
        async with asyncpg.create_pool(dsn, min_size=4, max_size=4) as pool:
            await pool.execute(
                "create table accounts as select id, 100 as money from generate_series(0, 9) id"
            )

            async def transfer(number):
                source, target = number % 10, (7 * number + 1) % 10
                async with pool.acquire() as connection, connection.transaction(isolation="serializable"):
                    await connection.execute("update accounts set money = money - 10 where id = $1", source)
                    await connection.execute("update accounts set money = money + 10 where id = $1", target)
                    if number % 4 == 0:
                        raise ZeroDivisionError  # and nothing was moved

            done = await asyncio.gather(*map(transfer, range(200)), return_exceptions=True)
            try:
                return done, await pool.fetchval("select sum(money) from accounts")
            finally:
                await pool.execute("drop table accounts")

    done, money = run(main())
    assert money == 1000
    refused = {asyncpg.SerializationError, asyncpg.DeadlockDetectedError}
    ends = [
        {type(each) for number, each in enumerate(done) if number % 4 == rest} - refused for rest in range(4)
    ]
    assert ends == [{ZeroDivisionError}, {type(None)}, {type(None)}, {type(None)}]


def test_a_query_that_is_cancelled_ends_on_the_server_and_its_connection_is_usable(run, dsn):
    async def main():
        async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
            watching = await asyncpg.connect(dsn)
            async with pool.acquire() as connection:
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(connection.execute("select pg_sleep(600)"), 0.1)
                with pytest.raises(asyncio.TimeoutError):
                    await connection.execute("select pg_sleep(600)", timeout=0.1)
                sleeping = asyncio.create_task(connection.execute("select pg_sleep(600)"))
                while not await watching.fetchval(ASLEEP):
                    await asyncio.sleep(0.001)
                sleeping.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sleeping
                assert await connection.fetchval("select 42") == 42
            assert await watching.fetchval(ASLEEP) == 0
            assert await pool.fetchval("select 43") == 43
            await watching.close()

    run(main())


def test_a_connection_that_the_server_ends_is_an_error_and_the_pool_makes_another(run, dsn):
    async def main():
        killer = await asyncpg.connect(dsn)
        async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
            async with pool.acquire() as connection:
                pid = await connection.fetchval("select pg_backend_pid()")
                sleeping = asyncio.create_task(connection.execute("select pg_sleep(600)"))
                active = "select query like 'select pg_sleep(%' from pg_stat_activity where pid = $1"
                while not await killer.fetchval(active, pid):
                    await asyncio.sleep(0.001)
                assert await killer.fetchval("select pg_terminate_backend($1)", pid)
                with pytest.raises((asyncpg.AdminShutdownError, asyncpg.ConnectionDoesNotExistError)):
                    await sleeping
            assert await pool.fetchval("select pg_backend_pid()") != pid
        await killer.close()

    run(main())


def test_a_server_that_is_not_there_is_an_error(run, tmp_path):
    async def main():
        with pytest.raises(FileNotFoundError):
            await asyncpg.connect(host=str(tmp_path), user="postgres", database="postgres")

    run(main())


@contextlib.asynccontextmanager
async def half_copied(connection, watching):
    """A task that copies 50 MB out of the database and has stopped after the beginning: the server waits to send."""

    async def take(data):
        await asyncio.Event().wait()

    pid = connection.get_server_pid()
    query = "select repeat(md5(number::text), 100) from generate_series(1, 16000) number"
    copying = asyncio.create_task(connection.copy_from_query(query, output=take))
    waits = "select wait_event = 'ClientWrite' from pg_stat_activity where pid = $1"
    while not await watching.fetchval(waits, pid):
        assert not copying.done()
        await asyncio.sleep(0.001)
    yield copying


def test_large_results_at_once_are_whole_though_one_is_cancelled_half_way(run, dsn):
    query = "select number, repeat(md5(number::text), 100) as text from generate_series(1, 2000) number"

    async def main():
        async with asyncpg.create_pool(dsn, min_size=5, max_size=5) as pool:
            watching, leaving = await pool.acquire(), await pool.acquire()
            async with half_copied(leaving, watching) as copying:
                fetching = [asyncio.create_task(pool.fetch(query)) for _ in range(9)]
                copying.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await copying
            # asyncpg doesn't end what a connection is copying when nobody takes it any more.
            leaving.terminate()
            await pool.release(leaving)
            answers = await asyncio.gather(*fetching)
            await pool.release(watching)
            assert await asyncio.gather(*(pool.fetchval("select 42") for _ in range(5))) == [42] * 5
        return [[(row["number"], row["text"]) for row in rows] for rows in answers]

    expected = [(number, hashlib.md5(b"%d" % number).hexdigest() * 100) for number in range(1, 2001)]
    assert run(main()) == [expected] * 9


def test_a_server_that_ends_is_an_error_for_everybody_and_comes_back(run, dsn, postgres):
    async def main():
        async with asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool:
            async with pool.acquire() as busy, pool.acquire() as idle:
                sleeping = asyncio.create_task(busy.execute("select pg_sleep(600)"))
                while not await idle.fetchval(ASLEEP):
                    await asyncio.sleep(0.001)
                async with ended(postgres):
                    with pytest.raises((asyncpg.ConnectionDoesNotExistError, asyncpg.PostgresError)):
                        await sleeping
                    with pytest.raises(asyncpg.InterfaceError):
                        await idle.fetchval("select 42")
                    with pytest.raises(OSError):
                        await asyncpg.connect(dsn)
            assert await pool.fetchval("select 43") == 43

    run(main())


@contextlib.asynccontextmanager
async def ended(postgres):
    await asyncio.to_thread(postgres.stop, "immediate")
    try:
        yield
    finally:
        await asyncio.to_thread(postgres.start)


def test_over_tls_both_sides_are_sure_of_it(run, postgres, certificate):
    async def main():
        trusting = ssl.create_default_context(cafile=certificate)
        connection = await asyncpg.connect(**postgres.tls_address, ssl=trusting)
        row = await connection.fetchrow("select ssl, version from pg_stat_ssl where pid = pg_backend_pid()")
        tls = connection._transport.get_extra_info("ssl_object")
        assert tuple(row) == (True, tls.version())
        assert ("IP Address", "127.0.0.1") in tls.getpeercert()["subjectAltName"]
        assert type(connection._transport).__module__ == "asyncio_thread_loop._tls"
        await connection.close()

        with pytest.raises(ssl.SSLCertVerificationError, match="self-signed certificate"):
            await asyncpg.connect(**postgres.tls_address, ssl=ssl.create_default_context())
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError, match="no encryption"):
            await asyncpg.connect(**postgres.tls_address, ssl=False)

    run(main())


def test_a_server_without_tls_is_refused_by_who_insists_on_it(run, certificate):
    """It answers asyncpg's first question with no, in plain words."""

    async def main():
        async def without(reader, writer):
            writer.write(b"N")
            await reader.read()  # until it is left
            writer.close()

        server = await asyncio.start_server(without, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        with pytest.raises(ConnectionError, match="rejected SSL upgrade"):
            await asyncpg.connect(
                host=host, port=port, user="postgres", ssl=ssl.create_default_context(cafile=certificate)
            )
        server.close()
        await server.wait_closed()

    run(main())
