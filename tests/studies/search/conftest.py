"""A real PostgreSQL for the session, and studies to fill."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import optuna
import pytest

optuna.logging.set_verbosity(optuna.logging.WARNING)

_USER, _PASSWORD = "fedhq", "se/cr{et%"
_NOBODY = "nobody"
_QUOTED = "se%2Fcr%7Bet%25"


@dataclass
class Postgres:
    """A server on a free port of this machine, in a temporary folder."""

    programs: Path
    folder: Path
    port: int
    made: int = field(default=0)

    def run(self, program: str, *arguments: str) -> None:
        """Runs one of its programs, as somebody who is not root, which it refuses."""
        done = subprocess.run(
            [str(self.programs / program), *arguments],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # the server inherits it: a pipe would never close
            stderr=subprocess.DEVNULL,
            check=False,
            **_somebody(),
        )
        assert done.returncode == 0, f"{program} failed; see {self.folder / 'log'}"

    def start(self) -> None:
        options = f"-p {self.port} -h 127.0.0.1 -k {self.folder} -F -c full_page_writes=off"
        self.run("pg_ctl", "-D", "data", "-l", "log", "-w", "-t", "60", "-o", options, "start")

    def stop(self, how: str = "fast") -> None:
        self.run("pg_ctl", "-D", "data", "-m", how, "-w", "stop")

    def make_database(self) -> str:
        """Makes an empty database; returns its address, with password."""
        self.made += 1
        self.execute("postgres", f"CREATE DATABASE studies{self.made}")
        return self.address(f"studies{self.made}")

    def address(self, database: str, password: str = _QUOTED) -> str:
        return f"postgresql+psycopg://{_USER}:{password}@127.0.0.1:{self.port}/{database}"

    def execute(self, database: str, statement: str) -> list[tuple]:
        psycopg = pytest.importorskip("psycopg")
        with psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=_USER,
            password=_PASSWORD,
            dbname=database,
            autocommit=True,
        ) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


def _is_root() -> bool:
    return os.name == "posix" and os.geteuid() == 0


def _somebody() -> dict[str, object]:
    """Who runs the server in place of root."""
    if not _is_root():
        return {}
    return {"user": _NOBODY, "group": pwd.getpwnam(_NOBODY).pw_gid, "extra_groups": []}


def _programs() -> Path | None:
    found = shutil.which("initdb")
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return Path(found).parent if found else places[-1].parent if places else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    programs = _programs()
    if programs is None:
        assert "CI" not in os.environ, "PostgreSQL must be installed under CI, but initdb is not"
        pytest.skip("PostgreSQL is not installed")
    with tempfile.TemporaryDirectory(prefix="fedhq-postgres-") as place:
        folder = Path(place)
        (folder / "password").write_text(_PASSWORD, "utf-8")
        if _is_root():
            shutil.chown(folder, _NOBODY)
            (folder / "password").chmod(0o644)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            server = Postgres(programs, folder, probe.getsockname()[1])
        options = ["-D", "data", "-U", _USER, "-A", "scram-sha-256", "--pwfile=password"]
        server.run("initdb", *options, "-E", "UTF8", "--no-locale", "--no-sync")
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def database(postgres: Postgres) -> str:
    """The address of an empty database, with password."""
    return postgres.make_database()
