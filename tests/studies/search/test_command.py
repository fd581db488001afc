"""The command `fedhq study search`, as a user runs it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from search_running import wait_for
from search_tables import write_table

import fedhq.studies
from fedhq.allocator.instances.families import FAMILIES
from fedhq.studies.search.config.settings import (
    parse_search,
    read_search_config,
    resolved_search,
)
from fedhq.studies.search.record import study_record, trial_record
from fedhq.studies.search.storage.opening import read_search
from fedhq.studies.search.storage.places import close_storage
from fedhq.studies.search.trials import known
from fedhq.studies.study import main

COMMAND = [sys.executable, "-m", "fedhq.studies", "study"]
DONE = {TrialState.COMPLETE, TrialState.PRUNED}  # pruned: no allocation keeps the limits
FLEET = Path(fedhq.studies.__file__).parent / "examples" / "plan" / "fleet.json"
MODEL = f"""
[problem]
path = {json.dumps(str(FLEET))}
[search]
trials = 14
workers = 1
[search.space]
"allocation.pick_loss" = {{ low = 0.001, high = 0.3, log = true }}
"""
TRAINING = """
menu = ["ptq-w2a2", "qat-w2a2"]
[data]
name = "digits"
num_test = 200
num_calibration = 50
[partition]
num_clients = 4
[[fleet.classes]]
name = "slow"
share = 1
slowdown = 3
uplink_bytes_per_second = 1e5
downlink_bytes_per_second = 1e5
[training]
rounds = 3
[search]
trials = 5
workers = 2
[search.space]
"training.learning_rate" = { low = 0.03, high = 0.3, log = true }
"allocation.pick_loss" = { low = 0.001, high = 0.3, log = true }
"""


@pytest.fixture(autouse=True)
def no_storage_in_the_environment(monkeypatch) -> None:
    monkeypatch.delenv("FEDHQ_STORAGE", raising=False)


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("search") / "search.toml"
    path.write_text(MODEL, "utf-8")
    return path


@pytest.fixture(scope="module")
def made(config) -> Path:
    """A search's folder as the command leaves it; tests take a copy."""
    folder = config.parent / "found"
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("FEDHQ_STORAGE", raising=False)
        assert search(config, folder) == 0
    return folder


@pytest.fixture
def folder(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "found")


def search(config: Path, folder: Path, *more: str) -> int:
    return main(["search", str(config), "--out", str(folder), "--quiet", *more])


def trials_of(folder: Path) -> list[optuna.trial.FrozenTrial]:
    study = read_search(folder)
    trials = study.get_trials()
    close_storage(study._storage)
    return trials


def test_a_search_has_its_trials_the_proposed_ones_first(made) -> None:
    trials = trials_of(made)
    assert len(trials) == 14
    assert {t.state for t in trials} <= DONE
    sources = [t.user_attrs.get("source", "sampler") for t in trials]
    assert sources == sorted(sources, key=["uniform", "frontier", "sampler"].index)
    assert set(sources) == {"uniform", "frontier", "sampler"}
    assert (made / "report.html").stat().st_size > 100_000


def test_the_same_command_adds_nothing_and_a_larger_number_adds_others(
    config, folder, capsys
) -> None:
    first = trials_of(folder)
    assert search(config, folder) == 0
    assert trials_of(folder) == first
    told = capsys.readouterr().out
    assert "of 14 trials" in told
    assert f"report: {folder / 'report.html'}\n" in told
    assert f"dashboard: fedhq study dashboard {folder}\n" in told
    assert search(config, folder, "--trials", "20") == 0
    more = trials_of(folder)
    assert more[:14] == first
    assert len(more) == 20
    assert {t.state for t in more} <= DONE
    drawn = [t.params["allocation.pick_loss"] for t in more if "source" not in t.user_attrs]
    assert len(set(drawn)) == len(drawn) > 6  # the sampler does not draw the same again


def test_one_frontier_serves_record_proposals_worker_report_and_the_next_command(
    tmp_path, monkeypatch
) -> None:
    calls = []
    find = known.find_frontier
    monkeypatch.setattr(known, "find_frontier", lambda p: calls.append(p) or find(p))
    path = write_table(tmp_path / "fleet.json", FAMILIES["federated"](3, 8))
    config = tmp_path / "search.toml"
    config.write_text(MODEL.replace(json.dumps(str(FLEET)), json.dumps(str(path))), "utf-8")
    for trials in ("14", "16"):
        assert search(config, tmp_path / "out", "--trials", trials) == 0
    assert main(["report", str(tmp_path / "out"), "--trial", "3"]) == 0
    assert len(calls) == 1
    assert len(trials_of(tmp_path / "out")) == 16


def test_every_trial_says_what_it_ran_on(config, made) -> None:
    study = read_search(made)
    record = study_record(study.user_attrs)
    assert record.command == f"fedhq study search {config} --out {made} --quiet"
    assert parse_search(record.config).search.trials == 14
    assert record.frontier[0][0] < record.frontier[-1][0]
    for trial in study.get_trials():
        assert trial.user_attrs["worker"]["pid"] == os.getpid()
        if trial.state is TrialState.COMPLETE:
            assert trial_record(trial.user_attrs).provenance in record.provenance


def test_one_worker_makes_the_same_search_again(config, made, tmp_path) -> None:
    assert search(config, tmp_path / "again") == 0
    found = [[(t.params, t.values) for t in trials_of(f)] for f in (made, tmp_path / "again")]
    assert found[0] == found[1]


def test_print_shows_the_whole_configuration_and_makes_nothing(config, tmp_path, capsys) -> None:
    folder = tmp_path / "found"
    assert search(config, folder, "--print", "--trials", "77") == 0
    printed = capsys.readouterr().out
    table = tomllib.loads(printed)
    assert table["search"]["trials"] == 77
    assert table["search"]["sampler"] == "tpe"
    assert not folder.exists()
    again = tmp_path / "again.toml"
    again.write_text(printed, "utf-8")
    assert resolved_search(read_search_config(str(again))) == resolved_search(
        read_search_config(str(config), ["search.trials=77"])
    )
    assert search(again, folder, "--print") == 0
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize("command", ["search", "proxy"])
def test_help_teaches_and_loads_nothing_heavy(command) -> None:
    code = (
        "import sys; from fedhq.studies.study import main\n"
        f"try: main([{command!r}, '--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'optuna', 'sqlalchemy', 'pydantic'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "postgresql+psycopg://me@" in done.stdout
    assert "FEDHQ_STORAGE" in done.stdout


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            ["--set", "allocation.min_participation=0.5"],
            "allocation.min_participation: null -> 0.5",
        ),
        (["--set", 'search.objectives=["round_seconds"]'], "has other objectives: minimize round_"),
        (["--name", "other"], "holds the study 'found', not 'other'"),
        (["--storage", "other.log"], "its study stands at journal:journal.log, not at"),
        (["--workers", "0"], "search.workers = 0"),
        (["--lease", "0"], "--lease 0: must be above 0"),
        (["--set", "search.sampler=oracle"], "search.sampler = 'oracle'"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_touched(
    config, folder, capsys, more, told
) -> None:
    before = everything(folder)
    assert search(config, folder, *more) == 2
    assert told in capsys.readouterr().err
    assert everything(folder) == before


@pytest.mark.parametrize("name", ["file", "file/found", "/proc"])
def test_a_folder_that_cannot_be_made_or_written_is_told_of(config, tmp_path, capsys, name) -> None:
    if name == "/proc" and not Path(name).is_dir():
        pytest.skip("no folder that root cannot write to")
    (tmp_path / "file").write_text("content", "utf-8")
    assert search(config, tmp_path / name) == 2
    told = f"fedhq: error: --out: {tmp_path / name} must be a folder that can be written, but: "
    assert capsys.readouterr().err.startswith(told)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_sqlite_has_one_worker(config, tmp_path, capsys) -> None:
    place = f"sqlite:///{tmp_path / 'studies.db'}"
    assert search(config, tmp_path / "found", "--storage", place, "--workers", "2") == 2
    assert "--workers 2: must be 1 with SQLite" in capsys.readouterr().err
    assert not (tmp_path / "studies.db").exists()


@pytest.mark.slow
def test_no_password_is_written_down(
    config, tmp_path, capsys, postgres, database, monkeypatch
) -> None:
    folder = tmp_path / "found"
    assert search(config, folder, "--storage", database, "--trials", "3") == 0
    monkeypatch.setenv("FEDHQ_STORAGE", database)
    assert search(config, folder, "--trials", "4") == 0
    page = folder / "of-the-storage.html"
    assert main(["report", database, "--name", "found", "--out", str(page)]) == 0
    assert "fedhq study report" in page.read_text("utf-8")
    study = read_search(folder)
    assert "fedhq study search" in study_record(study.user_attrs).command
    told = [*capsys.readouterr(), json.dumps(study.user_attrs)]
    told += [path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file()]
    assert [
        json.dumps(t.user_attrs) for t in study.get_trials() if "{et" in str(t.user_attrs)
    ] == []
    close_storage(study._storage)
    for text in told:
        assert "se/cr{et%" not in text
        assert "se%2Fcr" not in text
    assert json.loads((folder / "study.json").read_text("utf-8"))["storage"] == (
        database.replace(":se%2Fcr%7Bet%25@", "@")
    )


def start(config: Path, folder: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "fedhq.studies",
            "study",
            "search",
            str(config),
            "--out",
            str(folder),
            "--quiet",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.long
def test_a_search_that_trains_is_killed_and_goes_on(tmp_path) -> None:
    config, folder = tmp_path / "search.toml", tmp_path / "found"
    config.write_text(TRAINING, "utf-8")
    command = start(config, folder)
    wait_for(lambda: any(folder.glob("trials/*/seed-0/checkpoint.safetensors")), 120)
    command.send_signal(signal.SIGKILL)
    command.communicate(timeout=60)
    command = start(config, folder)
    told = command.communicate(timeout=300)
    assert command.returncode == 0, told
    trials = trials_of(folder)
    done = [t for t in trials if t.state is TrialState.COMPLETE]
    assert len(done) == 5
    retried = {t.user_attrs.get("retry_of") for t in trials}
    for trial in trials:
        if trial.state is not TrialState.COMPLETE:
            assert trial.state is TrialState.FAIL
            assert trial.number in retried or not trial.params
    for trial in done:
        record = trial_record(trial.user_attrs)
        rounds = folder / "trials" / record.digest / "seed-0" / "rounds.jsonl"
        assert rounds.read_bytes().count(b"\n") == 3
