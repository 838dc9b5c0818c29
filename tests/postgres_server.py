"""A PostgreSQL server for the tests, from the programs installed on the machine."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from installed import not_installed

SECONDS = 60


@contextmanager
def postgres_server() -> Iterator["PostgresServer"]:
    """A PostgreSQL server that runs."""
    programs = postgres_programs()
    if programs is None:
        not_installed("PostgreSQL's server", "postgresql")
    # Not pytest's tmp_path: only its owner may enter that, and its name may be too long for a socket.
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        server = PostgresServer(programs, Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


class PostgresServer:
    """A PostgreSQL server of its own in a temporary folder, where its socket is: a port might be taken meanwhile."""

    def __init__(self, programs: Path, folder: Path) -> None:
        # PostgreSQL refuses to run as root, so root hands the folder and the work to another.
        self.user = unprivileged_user() if os.geteuid() == 0 else None
        if self.user:
            os.chown(folder, self.user.pw_uid, self.user.pw_gid)
        self.programs = programs
        self.folder = folder
        self.log = folder / "log"
        self.dsn = f"postgresql://postgres@/postgres?host={folder}"
        self.options = f"-k {folder} -c listen_addresses= -c fsync=off"
        self.run("initdb", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync")

    def start(self) -> None:
        self.run("pg_ctl", "start", "--wait", f"--log={self.log}", f"--options={self.options}")

    def stop(self) -> None:
        self.run("pg_ctl", "stop", "--wait", "--mode=fast")

    def run(self, program: str, *args: str) -> None:
        done = subprocess.run(
            [self.programs / program, f"--pgdata={self.folder / 'data'}", *args],
            cwd=self.folder,
            env={
                **{name: os.environ[name] for name in os.environ if not name.startswith("PG")},
                "LC_ALL": "C",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            user=self.user and self.user.pw_uid,
            group=self.user and self.user.pw_gid,
            extra_groups=[] if self.user else None,
        )
        log = self.log.read_text() if self.log.exists() else ""
        assert done.returncode == 0, f"{program} failed:\n{done.stdout}{log}"


def unprivileged_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def postgres_programs() -> Path | None:
    """The folder of PostgreSQL's server programs. Debian keeps it out of PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if pg_config := shutil.which("pg_config"):
        told = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=True)
        folders.insert(0, Path(told.stdout.strip()))
    if initdb := shutil.which("initdb"):
        folders.insert(0, Path(initdb).parent)
    # pg_config also comes with the client library alone, so look for the program itself.
    return next((folder for folder in folders if (folder / "initdb").exists()), None)
