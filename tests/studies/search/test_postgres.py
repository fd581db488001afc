"""Studies in a real PostgreSQL, and behind a gRPC proxy before it."""

import signal
import subprocess
import sys
import threading

import optuna
import pytest
from search_accounts import check_accounts
from search_running import evaluations, free_port, kill_two_of_four, start_command

from fedhq.studies.search.storage.errors import StorageError
from fedhq.studies.search.storage.places import close_storage, open_storage
from fedhq.studies.search.workers.worker import TrialLoop
from fedhq.studies.study import main

PROXY = [sys.executable, "-m", "fedhq.studies", "study", "proxy"]


@pytest.fixture
def storage(database):
    storage = open_storage(database, may_create=True)
    yield storage
    close_storage(storage)


@pytest.fixture
def study(storage) -> optuna.Study:
    sampler = optuna.samplers.RandomSampler(0)
    return optuna.create_study(storage=storage, study_name="s", sampler=sampler)


def square(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", -5, 5) ** 2


def refusal(place: str, may_create: bool = True) -> str:
    with pytest.raises(StorageError) as caught:
        close_storage(open_storage(place, may_create))
    assert "se/cr{et%" not in str(caught.value)
    assert "se%2Fcr" not in str(caught.value)
    return str(caught.value)


def tables(postgres, database: str) -> set[str]:
    name = database.rpartition("/")[2]
    query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    return {table for (table,) in postgres.execute(name, query)}


def test_a_password_of_strange_letters_opens_it(study, database) -> None:
    TrialLoop(study, square, trials=3).run()
    again = open_storage(database)
    assert len(optuna.load_study(study_name="s", storage=again).get_trials()) == 3
    close_storage(again)


def test_wrong_passwords_and_missing_databases_are_told_of(postgres) -> None:
    assert "Check user and password" in refusal(postgres.address("studies1", "wrong"))
    assert "Make the database first" in refusal(postgres.address("nowhere"))


def test_a_foreign_database_is_refused_and_left_as_it_was(postgres, database) -> None:
    name = database.rpartition("/")[2]
    postgres.execute(name, "CREATE TABLE patients (id integer)")
    postgres.execute(name, "CREATE TABLE alembic_version (version_num text)")
    assert "it has tables of something else" in refusal(database)
    assert tables(postgres, database) == {"patients", "alembic_version"}


def test_a_reader_makes_no_tables(postgres, database) -> None:
    assert "holds no studies yet" in refusal(database, may_create=False)
    assert tables(postgres, database) == set()


def test_tables_of_another_optuna_are_left_as_they_were(postgres, database, study) -> None:
    name = database.rpartition("/")[2]
    postgres.execute(name, "DROP TABLE trial_heartbeats")
    postgres.execute(name, "UPDATE alembic_version SET version_num = 'v2.6.0.a'")
    before = tables(postgres, database)
    assert "another version of Optuna" in refusal(database)
    assert tables(postgres, database) == before


def test_several_who_open_an_empty_database_at_once_all_can(database) -> None:
    barrier, opened = threading.Barrier(4), []

    def work() -> None:
        barrier.wait()
        storage = open_storage(database, may_create=True)
        optuna.create_study(storage=storage, study_name="s", load_if_exists=True)
        opened.append(storage)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for storage in opened:
        assert [s.study_name for s in storage.get_all_studies()] == ["s"]
        close_storage(storage)
    assert len(opened) == 4


@pytest.mark.slow
def test_a_server_that_is_started_anew_costs_no_trial(postgres, study) -> None:
    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", -5, 5)
        if trial.number == 2:
            postgres.stop("immediate")  # as if it had crashed
            threading.Timer(1.0, postgres.start).start()
        return x * x

    TrialLoop(study, objective, trials=5).run()
    assert [t.state.name for t in study.get_trials()] == ["COMPLETE"] * 5


@pytest.mark.slow
def test_two_of_four_workers_are_killed_amid_their_trials(database, study, tmp_path) -> None:
    kill_two_of_four(database, tmp_path)
    check_accounts(study, 24, evaluations(tmp_path))


@pytest.mark.slow
def test_two_commands_share_a_study_through_a_proxy(database, study, tmp_path) -> None:
    place = f"grpc://127.0.0.1:{free_port()}"
    proxy = subprocess.Popen(
        [*PROXY, "--storage", database, "--port", place.rpartition(":")[2]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert proxy.stdout.readline() == (
        f"{place} serves {database.replace('se%2Fcr%7Bet%25', '').replace(':@', '@')}; "
        "Ctrl-C ends it\n"
    )
    commands = [start_command(tmp_path, place, 20, 2, 0.1, first=10 * k) for k in range(2)]
    for command in commands:
        assert command.wait(timeout=120) == 0, command.stderr.read()
        command.stderr.close()
    check_accounts(study, 20, evaluations(tmp_path))
    proxy.send_signal(signal.SIGINT)
    assert proxy.communicate(timeout=60) == ("ended\n", "")
    assert proxy.returncode == 0


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("runs/journal.log", "A journal file needs none"),
        ("sqlite:///studies.db", "SQLite bears one worker only"),
        ("grpc://127.0.0.1:13000", "a proxy stands behind no other"),
    ],
)
def test_what_cannot_stand_behind_a_proxy(place, told, capsys) -> None:
    assert main(["proxy", "--storage", place]) == 2
    assert told in capsys.readouterr().err


def test_a_proxy_needs_a_storage_and_a_free_port(postgres, capsys, monkeypatch) -> None:
    monkeypatch.delenv("FEDHQ_STORAGE", raising=False)
    assert main(["proxy"]) == 2
    assert "--storage: is required" in capsys.readouterr().err
    storage = postgres.address("studies1")
    assert main(["proxy", "--storage", storage, "--port", str(postgres.port)]) == 2
    assert f"--port {postgres.port}: cannot listen there: Address already in use" in (
        capsys.readouterr().err
    )
    assert main(["proxy", "--storage", storage, "--port", "0"]) == 2
    assert "must lie in 1 ... 65535" in capsys.readouterr().err
