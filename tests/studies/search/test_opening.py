"""Opening a study: made once, resumed if it is the same, else refused untouched."""

import json
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage

from fedhq.studies.search.record import SOURCE_KEY, Reference, StudyRecord, study_record
from fedhq.studies.search.storage.errors import StudyError
from fedhq.studies.search.storage.opening import (
    PROPOSED_KEY,
    Proposal,
    Wanted,
    open_study,
    propose,
    read_search,
)
from fedhq.studies.search.storage.places import open_storage
from fedhq.studies.search.storage.study_file import StudyFile, settle
from fedhq.studies.search.workers.leases import PROPOSAL_KEY
from fedhq.studies.search.workers.worker import TrialLoop

CONFIG = {"training": {"rounds": 3}, "menu": ["skip", "qat-w2a2"], "search": {"trials": 4}}
WANTED = Wanted(CONFIG, "abc", ("round_seconds", "accuracy_loss"), {"search.trials"})


def record(wanted: Wanted = WANTED) -> StudyRecord:
    return StudyRecord(
        config=wanted.config,
        digest=wanted.digest,
        objectives=wanted.objectives,
        limits={},
        menu=("skip", "qat-w2a2"),
        clients=3,
        frontier=((1.0, 0.5), (2.0, 0.25)),
        frontier_gap=0.0,
        reference=Reference(0.35, 0.36, (2.1, 0.525)),
        command="fedhq study search demo",
        provenance={},
    )


def opened(storage: BaseStorage, wanted: Wanted = WANTED, name: str = "s") -> optuna.Study:
    return open_study(storage, name, wanted, lambda: record(wanted))


@pytest.fixture
def journal(tmp_path) -> Path:
    return tmp_path / "journal.log"


@pytest.fixture
def storage(journal) -> BaseStorage:
    return open_storage(str(journal), may_create=True)


def test_a_study_is_made_with_named_objectives_and_its_record(storage) -> None:
    study = opened(storage)
    assert study.metric_names == ["round_seconds", "accuracy_loss"]
    assert [d.name for d in study.directions] == ["MINIMIZE", "MINIMIZE"]
    made = study_record(study.user_attrs)
    assert replace(made, provenance={}) == record()
    (ran,) = made.provenance.values()
    assert ran["versions"]["optuna"] == optuna.__version__


def test_the_same_search_goes_on_and_makes_nothing_again(storage) -> None:
    opened(storage)

    def never() -> StudyRecord:
        raise AssertionError("it is there already")

    others = replace(WANTED, config={**CONFIG, "search": {"trials": 400}})
    study = open_study(storage, "s", others, never)
    assert study_record(study.user_attrs).config == CONFIG
    assert len(study_record(study.user_attrs).provenance) == 1


def test_another_configuration_is_refused_with_the_keys_that_differ(storage, journal) -> None:
    opened(storage)
    before = journal.read_bytes()
    config = {"training": {"rounds": 5}, "menu": ["qat-w2a2"], "search": {"trials": 9}, "seed": 1}
    with pytest.raises(StudyError) as caught:
        opened(storage, replace(WANTED, config=config, digest="other"))
    assert str(caught.value) == (
        "the study 's' has another configuration, so its trials are not comparable (there -> "
        "asked for):\n  training.rounds: 3 -> 5\n"
        '  menu: ["skip", "qat-w2a2"] -> ["qat-w2a2"]\n  seed: nothing -> 1\n'
        "Take another --name or --out, or the old values; the study was left as it is."
    )
    assert journal.read_bytes() == before


def test_other_objectives_or_directions_are_refused(storage, journal) -> None:
    opened(storage)
    study = optuna.create_study(
        storage=storage, study_name="up", directions=["minimize", "maximize"]
    )
    study.set_user_attr(
        "fedhq", optuna.load_study(study_name="s", storage=storage).user_attrs["fedhq"]
    )
    before = journal.read_bytes()
    with pytest.raises(StudyError, match="asked for: minimize seconds_to_target"):
        opened(storage, replace(WANTED, objectives=("seconds_to_target",), digest="other"))
    with pytest.raises(StudyError, match="minimize round_seconds, maximize accuracy_loss"):
        opened(storage, name="up")
    assert journal.read_bytes() == before


def test_a_study_that_is_not_ours_is_refused(storage, journal, monkeypatch) -> None:
    monkeypatch.setattr("fedhq.studies.search.storage.opening._RECORD_SECONDS", 0.2)
    directions = ["minimize"] * 2
    optuna.create_study(storage=storage, study_name="up", directions=["minimize", "maximize"])
    noted = optuna.create_study(storage=storage, study_name="noted", directions=directions)
    noted.set_user_attr("by", "somebody")
    tried = optuna.create_study(storage=storage, study_name="tried", directions=directions)
    tried.add_trial(optuna.create_trial(values=[1.0, 2.0]))
    before = journal.read_bytes()
    for name in ("up", "noted", "tried"):
        with pytest.raises(StudyError, match="no search of this fedhq"):
            opened(storage, name=name)
    assert journal.read_bytes() == before


@pytest.mark.parametrize("writes", range(4))
def test_what_a_maker_left_that_was_killed_the_next_completes(
    storage, journal, monkeypatch, writes
) -> None:
    monkeypatch.setattr("fedhq.studies.search.storage.opening._RECORD_SECONDS", 0.2)
    _kill_in_process(str(journal), writes)
    left = optuna.load_study(study_name="s", storage=open_storage(str(journal)))
    assert (study_record(left.user_attrs) is None) == (writes < 2)
    study = opened(open_storage(str(journal)))
    propose(study, lambda: PROPOSALS)
    assert replace(study_record(study.user_attrs), provenance={}) == record()
    assert study.metric_names == ["round_seconds", "accuracy_loss"]
    assert len(study_record(study.user_attrs).provenance) == 1
    assert len(study.get_trials()) == len(PROPOSALS)


def _kill_in_process(path: str, writes: int) -> None:
    """Makes a study in a process that is killed after so many writes to it."""
    process = multiprocessing.get_context("fork").Process(target=_make_and_die, args=(path, writes))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def _make_and_die(path: str, writes: int) -> None:
    storage, left = open_storage(path), [writes]

    def limited(write):
        def call(*arguments: object) -> None:
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            write(*arguments)

        return call

    storage.set_study_user_attr = limited(storage.set_study_user_attr)
    storage.set_study_system_attr = limited(storage.set_study_system_attr)
    opened(storage)


def _open(path: str, start: object, found: object) -> None:
    storage = open_storage(path)
    start.wait()
    study = opened(storage)
    propose(study, lambda: PROPOSALS)
    found.put(study._study_id)


PROPOSALS: list[Proposal] = [({"x": k / 8}, "frontier") for k in range(4)]


@pytest.mark.slow
def test_of_several_who_start_at_once_one_makes_the_study(journal, storage) -> None:
    context = multiprocessing.get_context("fork")
    start, found = context.Barrier(6), context.Queue()
    openers = [context.Process(target=_open, args=(str(journal), start, found)) for _ in range(6)]
    for opener in openers:
        opener.start()
    ids = {found.get(timeout=60) for _ in openers}
    for opener in openers:
        opener.join()
        assert opener.exitcode == 0
    assert len(ids) == 1
    study = read_search(journal)
    assert [t.user_attrs[PROPOSAL_KEY] for t in study.get_trials()] == [0, 1, 2, 3]
    assert len(study_record(study.user_attrs).provenance) == 1


def test_proposals_are_enqueued_once_also_if_their_proposer_dies(storage) -> None:
    study = opened(storage)

    class Killed(BaseException):
        pass

    class Dying(list):
        def __iter__(self):
            yield from self[:2]
            raise Killed

    with pytest.raises(Killed):
        propose(study, lambda: Dying(PROPOSALS))
    assert PROPOSED_KEY not in study.user_attrs
    for _ in range(2):
        propose(study, lambda: PROPOSALS)
    trials = study.get_trials()
    assert [t.system_attrs["fixed_params"] for t in trials] == [p for p, _ in PROPOSALS]
    assert [t.user_attrs[SOURCE_KEY] for t in trials] == ["frontier"] * 4
    assert study.user_attrs[PROPOSED_KEY] == 4


def test_proposals_that_two_enqueue_are_run_once(storage) -> None:
    study = opened(storage)
    for _ in range(2):  # as two do who both take the proposer for dead
        for k, (params, source) in enumerate(PROPOSALS):
            study.enqueue_trial(params, {SOURCE_KEY: source, PROPOSAL_KEY: k})

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        return trial.suggest_float("x", 0, 1), 0.0

    TrialLoop(study, objective, trials=6).run()
    done = [t for t in study.get_trials() if t.state.name == "COMPLETE"]
    assert [t.params["x"] for t in done[:4]] == [0.0, 0.125, 0.25, 0.375]
    assert len(done) == 6
    assert len({t.params["x"] for t in done}) == 6


def test_a_folder_says_where_its_study_is_and_may_be_moved(tmp_path) -> None:
    folder = tmp_path / "search"
    folder.mkdir()
    place, name = settle(folder, None, None)
    assert (place, name) == (str(folder / "journal.log"), "search")
    opened(open_storage(place, may_create=True), name=name)
    StudyFile.of(folder, place, name, "abc").write(folder)
    assert json.loads((folder / "study.json").read_text("utf-8")) == {
        "study": "search",
        "storage": "journal:journal.log",
        "digest": "abc",
    }
    moved = folder.rename(tmp_path / "moved")
    assert read_search(moved).study_name == "search"
    assert settle(moved, None, None) == (str(moved / "journal.log"), "search")


def test_a_folder_of_another_study_is_refused(tmp_path) -> None:
    address = "postgresql+psycopg://me:secret@host/db"
    StudyFile.of(tmp_path, address, "mine", "abc").write(tmp_path)
    assert "secret" not in (tmp_path / "study.json").read_text("utf-8")
    assert settle(tmp_path, address, "mine") == (address, "mine")
    with pytest.raises(ValueError, match="holds the study 'mine', not 'yours'"):
        settle(tmp_path, None, "yours")
    with pytest.raises(ValueError, match=r"stands at postgresql.*me@host/db, not at journal.log"):
        settle(tmp_path, "journal.log", None)


def test_the_environment_brings_the_password_of_its_own_storage_only(tmp_path, monkeypatch) -> None:
    address = "postgresql+psycopg://me:secret@host/db"
    StudyFile.of(tmp_path, address, "mine", "abc").write(tmp_path)
    monkeypatch.setenv("FEDHQ_STORAGE", address)
    assert settle(tmp_path, None, None) == (address, "mine")
    monkeypatch.setenv("FEDHQ_STORAGE", "postgresql+psycopg://me:secret@other/db")
    assert settle(tmp_path, None, None) == ("postgresql+psycopg://me@host/db", "mine")


def test_reading_names_what_is_there(storage, journal, tmp_path) -> None:
    with pytest.raises(StudyError, match="has not a study; studies there: none"):
        read_search(journal)
    opened(storage, name="one")
    assert read_search(str(journal)).study_name == "one"
    opened(storage, name="two")
    with pytest.raises(ValueError, match=r"several studies\. --name one of 'one', 'two'"):
        read_search(journal)
    assert read_search(journal, "two").study_name == "two"
    with pytest.raises(StudyError, match="has not the study 'three'; studies there: 'one', 'two'"):
        read_search(journal, "three")
    with pytest.raises(StudyError, match="holds no search"):
        read_search(tmp_path)
    (tmp_path / "study.json").write_text("[]", "utf-8")
    with pytest.raises(StudyError, match="says not where a study is"):
        read_search(tmp_path)
