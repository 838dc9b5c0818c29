from typing import assert_type

from faces.sqlalchemy_ext_asyncio_sync import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy import select, text
from sqlalchemy.engine import Result, ScalarResult
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "user"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def used_well() -> None:
    engine = create_async_engine("postgresql+asyncpg://localhost")
    assert_type(engine, AsyncEngine)
    with engine.begin() as connection:
        assert_type(connection, AsyncConnection)
        connection.run_sync(Base.metadata.create_all)
        connection.execute(text("SELECT 1"))
        with connection.stream(text("SELECT 1")) as stream:
            for row in stream:
                print(row)
    assert_type(engine.connect().result(), AsyncConnection)
    with AsyncSession(engine, expire_on_commit=False) as session:
        assert_type(session, AsyncSession)
        result = session.execute(select(User.id, User.name))
        assert_type(result, Result[int, str])
        assert_type(session.scalars(select(User)), ScalarResult[User])
        assert_type(session.get(User, 1), User | None)
        assert_type(session.sync_session, Session)
        with session.begin():
            session.add(User(name="me"))
        session.commit()
    sessions = async_sessionmaker(engine)
    with sessions() as session, session.begin():
        pass
    engine.dispose()


def count(session: Session, minimum: int) -> int:
    return minimum


def used_wrongly(engine: AsyncEngine, session: AsyncSession, connection: AsyncConnection) -> None:
    assert_type(session.run_sync(count, 3), int)
    session.run_sync(count, "3")  # wrong: arg-type, reportArgumentType
    session.execute("SELECT 1")  # wrong: call-overload, reportCallIssue reportArgumentType
    session.nothing()  # wrong: attr-defined, reportAttributeAccessIssue
    AsyncSession(3)  # wrong: arg-type, reportArgumentType
    for user in session.scalars(select(User)):
        print(user.nickname)  # wrong: attr-defined, reportAttributeAccessIssue


async def awaited(session: AsyncSession) -> None:
    await session.commit()  # wrong: func-returns-value misc, reportGeneralTypeIssues
    async with session:  # wrong: attr-defined, reportGeneralTypeIssues
        pass
