"""SQLAlchemy's async engine from eight ordinary threads, each with a session of its own.

    pip install asyncio-thread-loop 'sqlalchemy[asyncio]' asyncpg
    python examples/sqlalchemy_threads.py postgresql://user@host/database

It makes two tables, `example_authors` and `example_books`, and drops them at the end.
"""

from __future__ import annotations

import argparse
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import ForeignKey, event, func, make_url, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from asyncio_thread_loop import AsyncioThreadLoop

THREADS = 8
BOOKS = 25


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "example_authors"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    books: Mapped[list[Book]] = relationship(back_populates="author")


class Book(Base):
    __tablename__ = "example_books"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("example_authors.id"))
    author: Mapped[Author] = relationship(back_populates="books")


def write(sessions: Any, number: int) -> int:
    """An author, and books one transaction at a time. Returns how many the author has then."""
    with sessions() as session:
        author = Author(name=f"author {number}")
        session.add(author)
        session.commit()
        for each in range(BOOKS):
            session.add(Book(title=f"book {each}", author=author))
            session.commit()
        session.refresh(author, ["books"])
        return len(author.books)


def take_a_name_twice(sessions: Any) -> None:
    try:
        # One transaction: an exception leaves the block, which rolls back.
        with sessions.begin() as session:
            session.add(Author(name="somebody new"))
            session.add(Author(name="author 0"))
    except IntegrityError:
        print("rolled back: the name is taken")


def count_books(session: Session) -> int:
    # `books` is loaded when it is used. Outside of run_sync() async SQLAlchemy raises MissingGreenlet there.
    return sum(len(author.books) for author in session.scalars(select(Author)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Write and read with SQLAlchemy from many threads.")
    parser.add_argument("dsn", nargs="?", default=os.environ.get("DATABASE_URL", "postgresql://"))
    args = parser.parse_args()

    engine = create_async_engine(make_url(args.dsn).set(drivername="postgresql+asyncpg"))
    seen = set()

    @event.listens_for(engine.sync_engine, "before_cursor_execute")
    def note_thread(*_: Any) -> None:
        seen.add(threading.current_thread().name)

    with AsyncioThreadLoop(name="database") as loop:
        # Objects have synchronous faces, too. What these give has one in turn: connections, sessions, results.
        database: Any = loop.to_sync(engine)
        sessions: Any = loop.to_sync(async_sessionmaker(engine, expire_on_commit=False))

        with database.begin() as connection:
            connection.run_sync(Base.metadata.create_all)
        try:
            with ThreadPoolExecutor(THREADS) as pool:
                written = pool.map(lambda number: write(sessions, number), range(THREADS))
                print("books written by each thread:", *written)
            take_a_name_twice(sessions)
            with sessions() as session:
                print("authors:", session.scalar(select(func.count()).select_from(Author)))
                print("books:", session.run_sync(count_books))
                # These come from a server-side cursor, as they are read.
                for author in session.stream_scalars(select(Author).order_by(Author.name)):
                    print("-", author.name)
        finally:
            with database.begin() as connection:
                connection.run_sync(Base.metadata.drop_all)
            database.dispose()
    print("every statement ran on the thread of:", *seen)


if __name__ == "__main__":
    main()
