from typing import Any, assert_type

from faces.asyncpg_connection_sync import Connection
from faces.asyncpg_pool_sync import Pool, create_pool


def used_well() -> None:
    with create_pool("postgresql://localhost") as pool:
        connection = pool.acquire().result()
        pool.release(connection)
        with pool.acquire() as other:
            assert_type(other, Any)
        rows = pool.fetch("SELECT $1::int", 1, timeout=3)
        assert_type(rows, list[Any])
        assert_type(pool.get_size(), Any)


def transacted(connection: Connection) -> None:
    with connection.transaction(isolation="serializable"):
        assert_type(connection.execute("SELECT 1"), str)
        for record in connection.cursor("SELECT 1"):
            print(record)
    assert_type(connection.is_closed(), Any)


def used_wrongly(pool: Pool, connection: Connection) -> None:
    connection.execute(1)  # wrong: arg-type, reportArgumentType
    connection.query("SELECT 1")  # wrong: attr-defined, reportAttributeAccessIssue
    pool.acquire().fetch("SELECT 1")  # wrong: attr-defined, reportAttributeAccessIssue


async def awaited(connection: Connection) -> None:
    await connection.execute("SELECT 1")  # wrong: misc, reportGeneralTypeIssues
