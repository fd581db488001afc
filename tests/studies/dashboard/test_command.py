"""`fedhq study dashboard` as one types it."""

import json
import re
import signal
import subprocess
import sys
import urllib.request

import pytest

from fedhq.studies.entry import main
from fedhq.studies.search.storage.places import close_storage, open_storage
from fedhq.studies.search.storage.study_file import JOURNAL_FILE, StudyFile


@pytest.fixture
def folder(make, tmp_path):
    """The folder of a search."""
    place = str(tmp_path / JOURNAL_FILE)
    storage = open_storage(place, may_create=True)
    study = make(20, storage=storage)
    close_storage(storage)
    StudyFile.of(tmp_path, place, study.study_name, "0123456789abcdef").write(tmp_path)
    return tmp_path


def fails(capsys, *arguments) -> str:
    """What the command says when it fails."""
    assert main(["study", "dashboard", *map(str, arguments)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    return told.err


def test_it_serves_until_ctrl_c_and_leaves_the_folder_as_it_was(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    command = [sys.executable, "-m", "fedhq.studies", "study", "dashboard", folder, "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        first, says, _ = (process.stdout.readline() for _ in range(3))
        url = re.search(r"http://127\.0\.0\.1:\d+/dashboard/studies/0$", first.strip())[0]
        with urllib.request.urlopen(url.replace("/dashboard/", "/api/"), timeout=30) as answer:
            told = json.load(answer)
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=60)[1]
    assert len(told["trials"]) == 20
    assert "Of 20 trials" in told["note"]["body"]
    assert "Nothing is written" in says
    assert error == "fedhq: stopped.\n"
    assert process.returncode == 130
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_folder_without_a_search_is_an_error_that_says_what_to_name(capsys, tmp_path):
    assert "--out of a `fedhq study search`" in fails(capsys, tmp_path)
    assert "no such" in fails(capsys, tmp_path / "nowhere")


def test_a_name_that_is_not_there_is_an_error_with_those_that_are(capsys, folder):
    said = fails(capsys, folder, "--name", "other")
    assert "'other'" in said
    assert "'search'" in said


def test_a_study_of_somebody_else_is_refused(capsys, tmp_path):
    import optuna

    storage = open_storage(str(tmp_path / "journal.log"), may_create=True)
    optuna.create_study(storage=storage, study_name="theirs")
    close_storage(storage)
    assert "must be one of `fedhq study search`" in fails(capsys, tmp_path / "journal.log")


@pytest.mark.parametrize("seconds", ["0", "-1", "inf", "nan"])
def test_a_refresh_that_is_no_time_is_an_error(capsys, folder, seconds):
    assert "--refresh" in fails(capsys, folder, "--refresh", seconds)


def test_without_optuna_dashboard_it_says_what_to_install(capsys, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    assert "pip install 'fedhq[dashboard]'" in fails(capsys, folder)


def test_its_help_loads_nothing_heavy(tmp_path):
    code = (
        "import sys\nfrom fedhq.studies.entry import main\n"
        "try: main(['study', 'dashboard', '--help'])\nexcept SystemExit: pass\n"
        "heavy = {'optuna', 'optuna_dashboard', 'torch', 'plotly', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--read-only" in done.stdout
