"""What the dashboard reads, against what Optuna itself says of the same study."""

import json
from collections.abc import Callable

import optuna
import pytest
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from optuna_dashboard import save_note

from fedhq.studies.dashboard.additions import Additions
from fedhq.studies.dashboard.files import File, Files
from fedhq.studies.dashboard.shown import ShownStorage
from fedhq.studies.search.record import TRIAL_KEY, trial_record

NO_FILES = Files()


def shown(study: optuna.Study, files: Files = NO_FILES) -> ShownStorage:
    return ShownStorage(study._storage, study._study_id, files)


def test_every_trial_lists_the_constraints_that_optuna_knows_by_name(study):
    trials = shown(study).get_all_trials(study._study_id)
    assert [t.system_attrs["constraints"] for t in trials] == [
        list(t.constraints.values()) for t in study.trials
    ]
    assert any(t.system_attrs["constraints"][0] > 0 for t in trials)


def test_a_list_of_constraints_that_the_search_wrote_itself_is_not_doubled():
    study = optuna.create_study()
    trial = study.ask()
    trial.set_constraint("late", 1.0)
    trial.storage.set_trial_system_attr(trial._trial_id, "constraints", [1.0])
    study.tell(trial, 0.0)
    (seen,) = shown(study).get_all_trials(study._study_id)
    assert seen.system_attrs["constraints"] == [1.0]


def test_a_record_is_spelled_out_and_all_other_attributes_stay(study):
    first = study.trials[0]
    record = trial_record(first.user_attrs)
    seen = shown(study).get_trial(first._trial_id).user_attrs
    assert TRIAL_KEY not in seen
    assert seen["source"] == first.user_attrs["source"]
    assert seen["round_seconds"] == first.values[0]
    told = dict(reversed(part.split()) for part in seen["allocation"].split(", "))
    assert {name: int(n) for name, n in told.items()} == {
        name: n for name, n in record.counts.items() if n
    }
    assert sum(map(int, told.values())) == len(record.choice)


def test_looking_changes_nothing_in_the_storage(make, tmp_path):
    journal = tmp_path / "journal.log"
    study = make(trials=12, storage=JournalStorage(JournalFileBackend(str(journal))))
    before = journal.read_bytes()
    storage = shown(study, Files([File("a.csv", bytes)], lambda k: [File("b.csv", bytes)]))
    storage.show(Additions("note", {0: "of a trial"}, {"f": "{}"}))
    storage.get_all_studies()
    storage.get_all_trials(study._study_id)
    storage.get_study_system_attrs(study._study_id)
    assert journal.read_bytes() == before


def test_a_trial_that_runs_is_shown_as_it_grows(make):
    study = make(trials=5)
    storage = shown(study)
    trial = study.ask()
    assert storage.get_trial(trial._trial_id).state is TrialState.RUNNING
    trial.set_user_attr("reason", "power cut")
    study.tell(trial, state=TrialState.FAIL)
    seen = storage.get_all_trials(study._study_id)[-1]
    assert (seen.state, seen.user_attrs["reason"]) == (TrialState.FAIL, "power cut")


def test_our_note_stands_until_somebody_writes_one_and_again_when_it_is_emptied(study):
    storage = shown(study)
    storage.show(Additions("ours " * 1000))
    own = optuna.load_study(study_name=study.study_name, storage=storage)
    key = study._study_id
    assert storage.get_study_system_attrs(key)["dashboard:note_str:0"].startswith("ours")
    save_note(own, "mine " * 1000)  # the dashboard's own function, two chunks
    attributes = storage.get_study_system_attrs(key)
    text = "".join(attributes[k] for k in sorted(attributes) if "note_str" in k)
    assert text == "mine " * 1000
    save_note(own, "")
    attributes = storage.get_study_system_attrs(key)
    text = "".join(attributes[k] for k in sorted(attributes) if "note_str" in k)
    assert text == "ours " * 1000


def test_only_the_study_that_was_asked_for_gets_additions(make):
    storage = InMemoryStorage()
    study, other = (make(trials=8, storage=storage, name=name) for name in ("a", "b"))
    seen = shown(study)
    seen.show(Additions("note"))
    notes = [s.study_name for s in seen.get_all_studies() if "dashboard:note_ver" in s.system_attrs]
    assert notes == ["a"]
    assert seen.get_study_system_attrs(other._study_id) == storage.get_study_system_attrs(
        other._study_id
    )


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_best_trial_is_the_one_that_optuna_calls_best(direction):
    study = optuna.create_study(direction=direction)
    for value, excess in [(1.0, 1.0), (2.0, -1.0), (3.0, 0.0), (4.0, 0.5)]:
        trial = optuna.trial.create_trial(value=value, constraints={"late": excess})
        study.add_trial(trial)
    assert shown(study).get_best_trial(study._study_id).number == study.best_trial.number


def test_without_a_feasible_trial_there_still_is_a_best_one_to_show():
    study = optuna.create_study()
    study.add_trial(optuna.trial.create_trial(value=1.0, constraints={"late": 1.0}))
    assert shown(study).get_best_trial(study._study_id).number == 0


def written(storage: optuna.storages.BaseStorage) -> list[object]:
    """A study that was made, changed and read through a storage."""
    study = optuna.create_study(storage=storage, study_name="through")
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    trial.report(0.5, step=1)
    trial.set_user_attr("a", 1)
    study.set_user_attr("b", 2)
    study.tell(trial, 1.0)
    storage.set_study_system_attr(study._study_id, "c", 3)
    kept = study.trials[0]
    return [
        kept.value,
        kept.intermediate_values,
        kept.user_attrs,
        study.user_attrs,
        storage.get_study_system_attrs(study._study_id),
        study.directions,
        [s.study_name for s in storage.get_all_studies()],
        storage.get_n_trials(study._study_id),
    ]


def test_all_writing_goes_through_to_the_storage():
    inner = InMemoryStorage()
    storage = ShownStorage(inner, study_id=-1, files=NO_FILES)
    assert written(storage) == written(InMemoryStorage())
    storage.delete_study(storage.get_study_id_from_name("through"))
    assert inner.get_all_studies() == []


def offered(make: Callable[[], bytes]) -> Files:
    return Files([File("report.html", make)], lambda k: [File("allocation.csv", make)] * (k < 2))


def test_files_are_found_again_by_the_ids_that_are_listed():
    files = offered(lambda: b"x")
    for trial in (None, 0, 1, 31):
        for key, file in files.listed(trial).items():
            assert files.find(key) is file or files.find(key) == file
    assert files.listed(31) == {}
    assert files.find("fed-2-0") is None
    assert files.find("0b3c9d2e-5b1f-4d5e-8a44-7d7d5f6d1f00") is None


def test_artifacts_are_listed_as_optuna_lists_them(study):
    storage = shown(study, offered(lambda: b"x"))
    attributes = storage.get_study_system_attrs(study._study_id)
    listed = [json.loads(v) for k, v in attributes.items() if k.startswith("artifacts:")]
    assert [(a["filename"], a["mimetype"]) for a in listed] == [("report.html", "text/html")]
    of_trial = storage.get_trial(study.trials[1]._trial_id).system_attrs
    (artifact,) = (json.loads(v) for k, v in of_trial.items() if k.startswith("artifacts:"))
    assert (artifact["filename"], artifact["mimetype"]) == ("allocation.csv", "text/csv")
