"""`fedhq study report` on real searches of the demo's table, in journals."""

import optuna
import pytest
from search_studies import Policies, make_study

from fedhq.studies.config import parse_run, resolved
from fedhq.studies.entry import main
from fedhq.studies.search.config.settings import config_digest, parse_search, resolved_search
from fedhq.studies.search.record import to_json
from fedhq.studies.search.report.parts import place_text
from fedhq.studies.search.report.trial_text import trial_config
from fedhq.studies.search.report.view import StudyView
from fedhq.studies.search.storage.places import open_storage
from fedhq.studies.search.storage.study_file import StudyFile
from fedhq.studies.tables import read_table
from fedhq.studies.toml_text import toml_text


@pytest.fixture(scope="module")
def policies():
    return Policies(clients=12)


@pytest.fixture
def folder(policies, tmp_path):
    """A search's folder, whose configuration names a table that is not there any more."""
    place = tmp_path / "search"
    place.mkdir()
    journal = str(place / "journal.log")
    make_study(20, policies, storage=open_storage(journal, may_create=True))
    StudyFile.of(place, journal, "search", "0123").write(place)
    return place


def test_a_page_is_written_into_the_folder(folder, capsys):
    assert main(["study", "report", str(folder)]) == 0
    page = (folder / "report.html").read_text("utf-8")
    assert capsys.readouterr().out == f"report: {folder / 'report.html'}\n"
    assert "only records are shown" in page  # the table is gone
    assert f"fedhq study report {folder} --trial" in page


def test_several_places_go_where_they_are_told(folder, tmp_path, capsys):
    out = tmp_path / "both.html"
    assert main(["study", "report", str(folder), str(folder), "--out", str(out)]) == 0
    assert "All studies" in out.read_text("utf-8")


def test_a_storage_of_several_studies_wants_a_name(policies, tmp_path, capsys):
    journal = str(tmp_path / "journal.log")
    storage = open_storage(journal, may_create=True)
    for name in ("one", "two"):
        make_study(4, policies, name=name, storage=storage)
    assert main(["study", "report", journal, "--out", str(tmp_path / "r.html")]) == 2
    assert "--name one of 'one', 'two'" in capsys.readouterr().err
    names = ["--name", "one", "--name", "two"]
    assert main(["study", "report", journal, *names, "--out", str(tmp_path / "r.html")]) == 0
    assert f"{journal} --name two --trial" in (tmp_path / "r.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--trial", "99"], "no such trial; its trials: 0 ... 19"),
        (["--config", "x.toml"], "Name one with --trial"),
        (["--prefer", "best"], "--prefer 'best': must be knee"),
        (["--name", "other"], "other"),
        (["--trial", "0", "--out", "zzz.html"], "--out is of a page, but --trial 0 prints"),
        (["--trial", "0", "--prefer", "knee"], "--prefer is of a page, but --trial 0 prints"),
        (["--out", "/"], "--out /: must be a file, but is a folder"),
        (["--trial", "0", "--config", "/"], "--config /: must be a file, but is a folder"),
        (["--out", "/dev/null/page.html"], "--out: /dev/null must be a folder that can be written"),
    ],
)
def test_faults_are_told_and_nothing_is_written(folder, capsys, arguments, says):
    before = sorted(p.name for p in folder.iterdir())
    assert main(["study", "report", str(folder), *arguments]) == 2
    assert says in capsys.readouterr().err
    assert sorted(p.name for p in folder.iterdir()) == before


def test_a_foreign_study_is_refused(tmp_path, capsys):
    journal = str(tmp_path / "journal.log")
    optuna.create_study(study_name="theirs", storage=open_storage(journal, may_create=True))
    assert main(["study", "report", journal]) == 2
    assert "'theirs' must be one of `fedhq study search`" in capsys.readouterr().err


def test_a_trial_is_printed_with_its_measures(folder, capsys):
    assert main(["study", "report", str(folder), "--trial", "3"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("trial 3 of search: complete, feasible\n")
    for told in ("measured       round_seconds = ", "seeds          0", "not possible: "):
        assert told in out


RUN = {
    "menu": ["skip", "ptq-w2a2", "qat-w2a2"],
    "data": {"name": "digits", "num_test": 200, "num_calibration": 50},
    "partition": {"num_clients": 4},
    "training": {"rounds": 2},
    "search": {
        "evaluate": "training",
        "seeds": [3, 4],
        "space": {
            "allocation.pick_loss": {"low": 0.01, "high": 0.2},
            "training.learning_rate": {"low": 0.01, "high": 0.3, "log": True},
            "wire_bits": {"choices": [3, 4]},
        },
    },
}


def test_a_trials_configuration_is_a_run_of_its_policy(policies, tmp_path):
    study = make_study(2, policies)
    config = parse_search(RUN)
    table = {**study.user_attrs["fedhq"], "config": resolved_search(config)}
    study.set_user_attr("fedhq", {**table, "digest": config_digest(config)})
    params = {"allocation.pick_loss": 0.05, "training.learning_rate": 0.1, "wire_bits": 3}
    kinds = {
        "allocation.pick_loss": optuna.distributions.FloatDistribution(0.01, 0.2),
        "training.learning_rate": optuna.distributions.FloatDistribution(0.01, 0.3, log=True),
        "wire_bits": optuna.distributions.CategoricalDistribution([3, 4]),
    }
    record = StudyView.of(study).trials[0].record
    attributes = {"fedhq": to_json(record) | {"seeds": [3, 4]}}
    study.add_trial(
        optuna.trial.create_trial(
            values=[1.0, 0.1], params=params, distributions=kinds, user_attrs=attributes
        )
    )
    view = StudyView.of(study)
    path = tmp_path / "trial.toml"
    path.write_text(trial_config(view, view.trials[2]), "utf-8")
    run = parse_run(read_table(path))
    assert resolved(run) == resolved(config.with_values(params)) | {"seed": 3}
    assert run.allocation.pick_loss == 0.05
    assert run.federation.training.learning_rate == 0.1
    assert run.federation.menu == ("skip", "ptq-w2a2-u3", "qat-w2a2-u3")


def test_toml_is_read_back_as_it_was(tmp_path):
    table = {
        "text": 'a "quoted" \\ line\nand ü \x7f',
        "flag": True,
        "number": 1e-9,
        "whole": -3,
        "unlimited": float("inf"),
        "list": [["a"], []],
        "tables": [{"name": "x", "inner": {"a b": 1}}, {}],
        "nested": {"a.b": {"c": 0.5}, "empty": {}},
    }
    path = tmp_path / "t.toml"
    path.write_text(toml_text(table | {"nothing": None}), "utf-8")
    assert read_table(path) == table
    with pytest.raises(ValueError, match="no place for"):
        toml_text({"a": object()})


def test_places_are_quoted_for_a_shell():
    assert place_text("my runs", "a b") == "'my runs' --name 'a b'"
