"""A dashboard over HTTP, against what Optuna says of the same study."""

import json
import threading
import time
import tomllib
import urllib.error
import urllib.request
from contextlib import contextmanager

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from fedhq.studies.dashboard.session import address, dashboard, greeting


@contextmanager
def opened(study, planner, tmp_path, **options):
    """The address of a dashboard's server that answers."""
    settings = {"port": 0, "every": 0.05, **options}
    artifacts = tmp_path / "artifacts"
    with dashboard(study, planner, "runs/search", artifacts, **settings) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield address(server, study).partition("/dashboard")[0]
        finally:
            server.shutdown()
            thread.join()


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as response:
        return response.read()


def detail(root: str, study: optuna.Study) -> dict:
    return json.loads(get(f"{root}/api/studies/{study._study_id}?after=0"))


def write_note(root: str, study: optuna.Study, version: int, body: str) -> int:
    """The status of saving a note, as the page does."""
    note = {"version": version, "body": body}
    return change("PUT", f"{root}/api/studies/{study._study_id}/note", note)


def change(method: str, url: str, content: dict) -> int:
    """The status of a request that changes something."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(content).encode(), headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


def wait_until(holds, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


def test_the_dashboard_tells_constraints_and_best_trials_as_optuna_does(
    make, unplannable, tmp_path
):
    study = make(80)
    with opened(study, unplannable, tmp_path) as root:
        told = detail(root, study)
    assert [t["constraints"] for t in told["trials"]] == [
        list(t.constraints.values()) for t in study.trials
    ]
    best = {t["number"] for t in told["best_trials"]}
    first = {tuple(t.values): t.number for t in reversed(study.best_trials)}
    assert best == set(first.values())
    assert len(first) < len(study.best_trials), "some trials must have measured the same"
    plain = optuna.study._multi_objective._get_pareto_front_trials(study)
    assert best != {t.number for t in plain}, "the study must tell feasible from plain fronts"


def test_one_objective_has_the_best_trial_that_keeps_its_limits(make, unplannable, tmp_path):
    study = make(40, tradeoff=30.0, limits={"accuracy_loss": 0.05})
    with opened(study, unplannable, tmp_path) as root:
        (best,) = detail(root, study)["best_trials"]
    assert best["number"] == study.best_trial.number
    least = min(study.trials, key=lambda t: t.value)
    assert least.number != study.best_trial.number, "the limit must cost something"


def test_notes_figures_and_files_are_there_and_the_files_open(study, policies, tmp_path):
    with opened(study, policies, tmp_path) as root:
        wait_until(lambda: len(detail(root, study)["plotly_graph_objects"]) == 6)
        told = detail(root, study)
        assert told["note"]["body"].startswith("# search")
        ids = [figure["id"] for figure in told["plotly_graph_objects"]]
        assert ids == sorted(ids)
        files = {a["filename"]: a for a in told["artifacts"]}
        place = f"{root}/artifacts/{study._study_id}"
        report = get(f"{place}/{files['report.html']['artifact_id']}").decode()
        assert report.startswith("<!doctype html>")
        assert "fedhq study report runs/search" in report
        config = tomllib.loads(get(f"{place}/{files['search.toml']['artifact_id']}").decode())
        wanted = json.loads(json.dumps(study.user_attrs["fedhq"]["config"]))
        assert config["search"] == {k: v for k, v in wanted["search"].items() if v is not None}
        (table,) = told["trials"][4]["artifacts"]
        trial_id = told["trials"][4]["trial_id"]
        lines = get(f"{place}/{trial_id}/{table['artifact_id']}").decode().splitlines()
        assert lines[0].startswith("client,strategy,seconds,waits_seconds,loss")
        assert len(lines) == 1 + 30


def test_a_search_that_runs_is_followed_and_its_journal_is_left_alone(make, unplannable, tmp_path):
    path = tmp_path / "journal.log"
    study = make(12, storage=JournalStorage(JournalFileBackend(str(path))))
    with opened(study, unplannable, tmp_path) as root:
        wait_until(lambda: len(detail(root, study)["plotly_graph_objects"]) == 3)
        before = path.read_bytes()
        assert "Of 12 trials" in detail(root, study)["note"]["body"]
        study.add_trial(study.trials[0])
        grown = path.read_bytes()
        assert grown.startswith(before)
        wait_until(lambda: "Of 13 trials" in detail(root, study)["note"]["body"])
        assert path.read_bytes() == grown


def test_two_dashboards_of_one_search_do_not_know_of_each_other(study, unplannable, tmp_path):
    with (
        opened(study, unplannable, tmp_path) as first,
        opened(study, unplannable, tmp_path) as second,
    ):
        assert first != second
        told = [detail(root, study) for root in (first, second)]
    assert [len(t["artifacts"]) for t in told] == [2, 2]


def test_a_note_of_ones_own_is_kept_in_the_study(study, unplannable, tmp_path):
    with opened(study, unplannable, tmp_path) as root:
        assert write_note(root, study, 1, "mine") == 200
        assert detail(root, study)["note"] == {"version": 1, "body": "mine"}
        assert write_note(root, study, 1, "late") == 409  # somebody else was faster
    kept = study._storage.get_study_system_attrs(study._study_id)
    assert kept["dashboard:note_str:0"] == "mine"


def test_uploads_are_kept_and_a_study_can_be_deleted_with_them(study, unplannable, tmp_path):
    with opened(study, unplannable, tmp_path) as root:
        upload = {"file": "data:text/plain;base64,aGVsbG8=", "filename": "hello.txt"}
        api = f"{root}/api/artifacts/{study._study_id}"
        assert change("POST", api, upload) == 201
        artifact = next(a for a in detail(root, study)["artifacts"] if a["filename"] == "hello.txt")
        kept = tmp_path / "artifacts" / artifact["artifact_id"]
        assert kept.read_bytes() == b"hello"
        assert get(f"{root}/artifacts/{study._study_id}/{artifact['artifact_id']}") == b"hello"
        assert change("DELETE", f"{root}/api/studies/{study._study_id}", {}) == 200
    assert study._storage.get_all_studies() == []
    assert not kept.exists()


def test_read_only_refuses_notes_and_leaves_the_study_as_it_is(study, unplannable, tmp_path):
    before = study._storage.get_study_system_attrs(study._study_id)
    with opened(study, unplannable, tmp_path, read_only=True) as root:
        assert write_note(root, study, 1, "mine") == 403
        assert detail(root, study)["note"]["version"] == 0
    assert study._storage.get_study_system_attrs(study._study_id) == before


def test_when_it_ends_no_thread_and_no_port_is_left(study, unplannable, tmp_path):
    with opened(study, unplannable, tmp_path) as root:
        port = int(root.rpartition(":")[2])
    assert not [t for t in threading.enumerate() if t.name == "fedhq-refresh"]
    with opened(study, unplannable, tmp_path, port=port) as again:
        assert again == root


def test_the_greeting_warns_where_others_reach_it(study, unplannable, tmp_path):
    with dashboard(study, unplannable, "runs/search", tmp_path, port=0) as server:
        says = greeting(server, study, "runs/search", read_only=False)
        assert address(server, study) in says
        assert "--read-only" in says
        assert "password" not in says
    with dashboard(study, unplannable, "runs/search", tmp_path, "0.0.0.0", 0) as server:
        assert "delete it: there is no password" in greeting(server, study, "x", read_only=False)
        assert "read the search: there is no password" in greeting(server, study, "x", True)


def test_a_study_of_somebody_else_is_an_error_that_says_so(unplannable, tmp_path):
    foreign = optuna.create_study(study_name="theirs")
    with (
        pytest.raises(ValueError, match="'theirs' must be one of `fedhq study search`"),
        dashboard(foreign, unplannable, "x", tmp_path, port=0),
    ):
        pass
