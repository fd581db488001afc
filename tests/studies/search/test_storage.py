"""Storages: what opens, and what is refused untouched."""

import fcntl
import json
import multiprocessing
import os
import shlex
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from search_running import free_port

from fedhq.studies.search.storage.errors import StorageError
from fedhq.studies.search.storage.journal import SharedJournal
from fedhq.studies.search.storage.places import (
    address_of,
    close_storage,
    is_for_one_worker,
    open_storage,
    survive,
    without_secrets,
)


def fill(storage: optuna.storages.BaseStorage, name: str = "some") -> None:
    study = optuna.create_study(storage=storage, study_name=name)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)


def values(storage: optuna.storages.BaseStorage, name: str = "some") -> list[float]:
    study = optuna.load_study(study_name=name, storage=storage)
    return [trial.value for trial in study.get_trials()]


@pytest.mark.parametrize("prefix", ["", "journal:"])
def test_a_journal_is_optunas_format(tmp_path, prefix) -> None:
    path = tmp_path / "journal.log"
    fill(open_storage(f"{prefix}{path}", may_create=True))
    theirs = JournalStorage(JournalFileBackend(str(path)))
    assert values(theirs) == values(open_storage(str(path)))
    assert len(values(theirs)) == 3


def test_sqlite_is_opened_again(tmp_path) -> None:
    place = f"sqlite:///{tmp_path / 'studies.db'}"
    storage = open_storage(place, may_create=True)
    fill(storage)
    again = open_storage(place)
    assert values(again) == values(storage)
    close_storage(again)
    close_storage(storage)
    assert is_for_one_worker(place)


def test_half_a_line_of_a_killed_writer_costs_nothing_else(tmp_path) -> None:
    path = tmp_path / "journal.log"
    fill(open_storage(str(path), may_create=True))
    whole = path.read_bytes()
    for half in (b'{"op_code":4,"wor', b"x" * 200_000):
        path.write_bytes(whole + half)
        reader = open_storage(str(path))
        study = optuna.load_study(study_name="some", storage=open_storage(str(path)))
        study.add_trial(optuna.create_trial(value=1.0))
        assert path.read_bytes().startswith(whole + b'{"op_code":4,')
        assert len(values(reader)) == 4  # who had seen the half line reads on, too
        for line in path.read_bytes().splitlines():
            json.loads(line)


def _append(path: str, start: object) -> None:
    start.wait()
    journal = SharedJournal(path)
    for k in range(200):
        journal.append_logs([{"worker": os.getpid(), "k": k, "pad": "." * (k * 37 % 5000)}])


@pytest.mark.slow
def test_writers_at_the_same_time_lose_nothing(tmp_path) -> None:
    path = tmp_path / "journal.log"
    context = multiprocessing.get_context("fork")
    start = context.Barrier(4)
    writers = [context.Process(target=_append, args=(str(path), start)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    for writer in writers:
        assert [line["k"] for line in lines if line["worker"] == writer.pid] == list(range(200))


def test_a_writer_waits_for_the_lock(tmp_path) -> None:
    path = tmp_path / "journal.log"
    journal = SharedJournal(str(path))
    with path.open("ab") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        writer = threading.Thread(target=journal.append_logs, args=([{"op_code": 0}],))
        writer.start()
        writer.join(timeout=0.2)
        assert path.read_bytes() == b""
    writer.join(timeout=60)
    assert path.read_bytes() == b'{"op_code":0}\n'


def test_a_writer_that_is_killed_with_the_lock_holds_nobody_up(tmp_path) -> None:
    path = tmp_path / "journal.log"
    code = (
        "import fcntl, os, sys\n"
        f"file = open({str(path)!r}, 'ab'); fcntl.flock(file, fcntl.LOCK_EX)\n"
        "file.write(b'{\"op_'); file.flush(); print('held', flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.stdout == b"held\n"
    fill(open_storage(str(path)))
    assert len(values(open_storage(str(path)))) == 3


def refusal(place: str, may_create: bool = True) -> str:
    with pytest.raises(StorageError) as caught:
        close_storage(open_storage(place, may_create))
    return str(caught.value)


def test_a_journal_that_is_not_there(tmp_path) -> None:
    assert "no such file" in refusal(str(tmp_path / "journal.log"), may_create=False)
    assert "its folder is not there" in refusal(str(tmp_path / "nowhere" / "journal.log"))
    assert f"Name a file in it: {tmp_path / 'journal.log'}" in refusal(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "epoch,loss\n1,0.5\n",
        '{"round": 1}\n',
        "[]\n",
        "no line end",
        '{"op_code":0,"worker_id":"a","study_name":"s","directions":[1]}\n{"op\nx\n',
    ],
)
def test_a_file_that_is_no_journal_is_left_as_it_was(tmp_path, text) -> None:
    path = tmp_path / "losses.csv"
    path.write_text(text, "utf-8")
    told = refusal(str(path))
    assert told.startswith(f"{path}: is no journal of studies, or a damaged one: ")
    assert told.endswith("Name another file; this one was left as it is.")
    assert path.read_text("utf-8") == text


def test_unknown_addresses_name_the_known_ones() -> None:
    for place in ("oracle://me@host/x", "redis://host", "nonsense+x://a"):
        with pytest.raises(ValueError, match=r"no known storage. Known are .*postgresql\+psycopg"):
            open_storage(place)
    with pytest.raises(ValueError, match="cannot be read") as caught:
        open_storage("postgresql+psycopg://me:secret@host:port/x")
    assert "secret" not in str(caught.value)
    with pytest.raises(ValueError, match="must be grpc://host:port"):
        open_storage("grpc://localhost")


def test_passwords_are_shown_nowhere() -> None:
    shown = address_of("postgresql+psycopg://me:secret@host/db?password=secret&sslmode=require")
    assert shown == "postgresql+psycopg://me@host/db?sslmode=require"


def test_a_command_is_recorded_without_the_passwords_of_its_places() -> None:
    place = "mysql+pymysql://me:se cr{et%25@host/db"
    given = shlex.join(["fedhq", "study", "report", "runs/x", f"--storage={place}", place])
    told = without_secrets(given, [None, "runs/x", place])
    shown = "mysql+pymysql://me@host/db"
    assert shlex.split(told) == ["fedhq", "study", "report", "runs/x", f"--storage={shown}", shown]


def test_a_driver_that_is_not_installed_is_named(monkeypatch) -> None:
    for place, module in (
        ("postgresql+psycopg://me@host/x", "psycopg"),
        ("mysql+pymysql://me@host/x", "pymysql"),
        ("postgresql+psycopg2://me@host/x", "psycopg2"),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        assert refusal(place) == (
            f"{place}: needs {module}, which is not installed. Run: pip install 'fedhq[storage]'"
        )
    assert "no driver 'oops'" in refusal("postgresql+oops://me@host/x")


def test_servers_that_are_not_there_are_told_of() -> None:
    port = free_port()
    for place in (
        f"postgresql+psycopg://me:secret@127.0.0.1:{port}/x",
        f"mysql+pymysql://me:secret@127.0.0.1:{port}/x",
    ):
        told = refusal(place)
        assert told.startswith(f"{address_of(place)}: cannot be opened: ")
        assert "Check that the server runs, and the host and port" in told
        assert "secret" not in told


def test_a_proxy_that_is_not_there_is_told_of(monkeypatch) -> None:
    monkeypatch.setattr("fedhq.studies.search.storage.places._PROXY_SECONDS", 0.3)
    port = free_port()
    told = refusal(f"grpc://127.0.0.1:{port}")
    assert told.startswith(f"grpc://127.0.0.1:{port}: no proxy of studies answers there: ")
    assert f"--port {port}" in told


def test_files_of_sqlite_that_are_not_there_or_hold_something_else(tmp_path) -> None:
    path = tmp_path / "some.db"
    place = f"sqlite:///{path}"
    assert "no such file" in refusal(place, may_create=False)
    assert not path.exists()
    assert "Name a file" in refusal("sqlite://")
    assert "its folder is there" in refusal(f"sqlite:///{tmp_path / 'nowhere' / 'x.db'}")
    path.write_text("some text that is long enough to be no database of SQLite's" * 20, "utf-8")
    assert "Name another file" in refusal(place)
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE patients (id INTEGER)")
    before = path.read_bytes()
    assert "it has tables of something else" in refusal(place)
    assert path.read_bytes() == before


def test_a_database_of_studies_that_are_not_optunas_is_refused(tmp_path) -> None:
    path = tmp_path / "clinic.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE studies (patient INTEGER)")
    before = path.read_bytes()
    assert "it has tables of something else" in refusal(f"sqlite:///{path}")
    assert path.read_bytes() == before


def test_tables_of_another_version_of_optuna_are_left_as_they_are(tmp_path) -> None:
    path = tmp_path / "old.db"
    storage = open_storage(f"sqlite:///{path}", may_create=True)
    fill(storage)
    close_storage(storage)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v2.6.0.a'")
        connection.execute("DROP TABLE trial_heartbeats")
    before = path.read_bytes()
    told = refusal(f"sqlite:///{path}")
    assert "another version of Optuna" in told
    assert "optuna storage upgrade" in told
    assert path.read_bytes() == before


def test_an_empty_database_is_not_filled_by_a_reader(tmp_path) -> None:
    path = tmp_path / "empty.db"
    sqlite3.connect(path).close()
    path.touch()
    assert "holds no studies yet" in refusal(f"sqlite:///{path}", may_create=False)
    assert path.read_bytes() == b""


def test_an_outage_is_survived_and_other_errors_are_not() -> None:
    import sqlalchemy as sa

    def failing(times: int, error: Exception):
        def call() -> int:
            nonlocal times
            times -= 1
            if times >= 0:
                raise error
            return 7

        return call

    outage = sa.exc.OperationalError("SELECT 1", {}, Exception("gone"))
    seen: list[int] = []
    assert survive(failing(2, outage), lambda: seen.append(1)) == 7
    assert seen == [1, 1]
    with pytest.raises(KeyError):
        survive(failing(1, KeyError("x")))
    with pytest.raises(StorageError, match="the same command resumes"):
        survive(failing(9, outage), patience_seconds=0.0)


def test_a_folder_that_cannot_be_written_is_told_of(tmp_path) -> None:
    if os.geteuid() == 0:
        place = Path("/proc/journal.log")
        with pytest.raises(StorageError, match="cannot be opened"):
            open_storage(str(place), may_create=True)
        return
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="cannot be opened"):
        open_storage(str(tmp_path / "journal.log"), may_create=True)
