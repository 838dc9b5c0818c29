"""Runs the generator as its users do: as a process."""

import os
import subprocess
import sys
from pathlib import Path

PACKAGES = Path(__file__).parent / "packages"

FORMS = ("pyi", "py")

#: Of the libraries that people use, what they would ask for; and a package that has every kind of annotation.
TARGETS = (
    "aiofiles",
    "aiohttp:ClientSession",
    "anyio.streams.memory",
    "asyncpg.connection:Connection",
    "asyncpg.pool:Pool",
    "asyncpg.pool:create_pool",
    "httpx:AsyncClient",
    "redis.asyncio:Redis",
    "shop",
    "shop._client:Cart",
    "shop._client:Items",
    "shop._client:SpecialClient",
    "sqlalchemy.ext.asyncio:AsyncEngine",
    "sqlalchemy.ext.asyncio:AsyncSession",
    "sqlalchemy.ext.asyncio:async_sessionmaker",
    "sqlalchemy.ext.asyncio:create_async_engine",
    "websockets.asyncio.client",
)


def stubgen(
    *arguments: str | os.PathLike[str], path: Path = PACKAGES, seed: int = 0
) -> subprocess.CompletedProcess[str]:
    """`python -m asyncio_thread_loop stubgen`, with `path` to import from."""
    return subprocess.run(
        [sys.executable, "-m", "asyncio_thread_loop", "stubgen", *arguments],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(path), os.environ.get("PYTHONPATH", "")]),
            "PYTHONHASHSEED": str(seed),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        timeout=100,
    )


def generate(directory: Path, form: str, *targets: str, seed: int = 0) -> dict[str, str]:
    """The files that the command writes for some targets, which must go well."""
    done = stubgen(*targets, "--format", form, "--output", directory, seed=seed)
    assert done.returncode == 0, done.stderr
    assert not done.stdout
    return files(directory)


def files(directory: Path) -> dict[str, str]:
    """The generated files in a directory."""
    return {file.name: file.read_text() for file in sorted(directory.glob("*_sync.*"))}
