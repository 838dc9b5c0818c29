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
from kept_port import kept_port

SECONDS = 60


@contextmanager
def postgres_server(certificate: Path | None = None) -> Iterator["PostgresServer"]:
    """A PostgreSQL server that runs.

    With a file of a certificate for 127.0.0.1 and its key it also listens there, for TLS alone.
    """
    programs = postgres_programs()
    if programs is None:
        not_installed("PostgreSQL's server", "postgresql")
    # Not pytest's tmp_path: only its owner may enter that, and its name may be too long for a socket.
    with tempfile.TemporaryDirectory(prefix="pg-") as folder, kept_port() as port:
        server = PostgresServer(programs, Path(folder))
        if certificate is not None:
            server.use_tls(certificate, port)
        server.start()
        try:
            yield server
        finally:
            server.stop()


class PostgresServer:
    """A PostgreSQL server of its own in a temporary folder, where its socket is."""

    tls_dsn: str
    """Of a connection over TLS that insists on the server's certificate."""
    tls_address: dict[str, str | int]
    """The same as asyncpg's arguments, without anything about TLS."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.user = unprivileged_user() if os.geteuid() == 0 else None
        self.hand_over(folder)
        self.programs = programs
        self.folder = folder
        self.log = folder / "log"
        self.dsn = f"postgresql://postgres@/postgres?host={folder}"
        self.options = f"-k {folder} -c listen_addresses= -c fsync=off"
        self.run("initdb", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync")

    def use_tls(self, certificate: Path, port: int) -> None:
        """To be called before it starts: whoever doesn't come through the socket has to use TLS."""
        own = self.folder / "certificate.pem"
        shutil.copyfile(certificate, own)
        own.chmod(0o600)  # it has the key in it
        self.hand_over(own)
        (self.folder / "data" / "pg_hba.conf").write_text(
            "local all all trust\nhostssl all all 127.0.0.1/32 trust\n"
        )
        self.options = (
            f"-k {self.folder} -c listen_addresses=127.0.0.1 -p {port} -c fsync=off "
            f"-c ssl=on -c ssl_cert_file={own} -c ssl_key_file={own}"
        )
        self.dsn = f"{self.dsn}&port={port}"
        self.tls_dsn = (
            f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=verify-full&sslrootcert={certificate}"
        )
        self.tls_address = {
            "host": "127.0.0.1",
            "port": port,
            "user": "postgres",
            "database": "postgres",
        }

    def hand_over(self, path: Path) -> None:
        """PostgreSQL refuses to run as root, so root hands what it is to have, and the work, to another."""
        if self.user:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def start(self) -> None:
        self.run("pg_ctl", "start", "--wait", f"--log={self.log}", f"--options={self.options}")

    def stop(self, mode: str = "fast") -> None:
        self.run("pg_ctl", "stop", "--wait", f"--mode={mode}")

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
