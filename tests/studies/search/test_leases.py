"""Leases: who is taken for dead, and that nothing is lost or doubled whoever dies when."""

import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace

import optuna
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState
from search_running import wait_for

from fedhq.studies.search.record import LOST_KEY, REASON_KEY, RETRY_KEY, SOURCE_KEY, Lost
from fedhq.studies.search.storage.places import open_storage
from fedhq.studies.search.workers.leases import (
    MOST_RETRIES,
    RENEWED_KEY,
    Renewal,
    Watch,
    hand_back,
    is_twin,
    repair,
)
from fedhq.studies.search.workers.signature import Worker, sign
from fedhq.studies.search.workers.worker import TrialLoop

ELSEWHERE = Worker("another machine", 7, "1")


@pytest.fixture
def opener(tmp_path) -> Callable[[], optuna.Study]:
    """Opens the same study in its journal, each time as another process would."""
    path = str(tmp_path / "journal.log")
    optuna.create_study(storage=open_storage(path, may_create=True), study_name="s")
    sampler = optuna.samplers.RandomSampler(0)
    return lambda: optuna.load_study(study_name="s", storage=open_storage(path), sampler=sampler)


@pytest.fixture
def study(opener) -> optuna.Study:
    return opener()


def leave(study: optuna.Study, worker: Worker, x: float | None = None) -> optuna.Trial:
    """A trial that a worker begins and never ends."""
    trial = study.ask()
    sign(trial, worker)
    trial.suggest_float("x", 0, 1)
    return trial


def look(study: optuna.Study, watch: Watch | None = None) -> bool:
    return (watch or Watch(study)).look(study.get_trials(deepcopy=False))


def dead_process() -> Worker:
    process = subprocess.Popen([sys.executable, "-c", ""])
    worker = replace(Worker.here(), pid=process.pid)
    process.wait()
    return worker


def test_a_worker_is_known_dead_when_its_process_is_gone_or_another() -> None:
    here = Worker.here()
    assert not here.is_known_dead
    assert dead_process().is_known_dead
    assert replace(here, started="1").is_known_dead  # its number was given anew
    assert not replace(here, host="elsewhere", started="1").is_known_dead
    assert not replace(dead_process(), host="elsewhere").is_known_dead
    assert Worker.of({"worker": asdict(here)}) == here


def test_a_process_that_ended_and_was_not_waited_for_is_dead() -> None:
    code = (
        "from dataclasses import asdict\n"
        "from fedhq.studies.search.workers.signature import Worker\n"
        "print(asdict(Worker.here()), flush=True)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    worker = Worker(**eval(process.stdout.readline()))
    process.stdout.close()
    wait_for(lambda: worker.is_known_dead)  # a zombie, as nobody has waited for it
    assert process.wait() == 0


def test_a_dead_processs_trial_is_run_again_with_its_parameters_and_its_source(study) -> None:
    study.enqueue_trial({"x": 0.25}, {SOURCE_KEY: "frontier"})
    lost = leave(study, dead_process())
    assert look(study)
    failed, again = study.get_trials()
    assert failed.state is TrialState.FAIL
    assert failed.user_attrs[REASON_KEY].startswith("its worker, process ")
    assert failed.user_attrs[REASON_KEY].endswith(", died.")
    assert again.state is TrialState.WAITING
    assert again.user_attrs == {SOURCE_KEY: "frontier", RETRY_KEY: lost.number}
    assert study.ask().suggest_float("x", 0, 1) == 0.25
    assert not look(study)


def test_a_trial_of_another_machine_is_lost_once_nothing_was_heard_for_the_length_of_a_lease(
    study,
) -> None:
    now = itertools.count()
    watch = Watch(study, lease_seconds=10.0, clock=lambda: clock[0])
    clock = [1000.0]
    trial = leave(study, ELSEWHERE)
    for seconds, renews in ((0, False), (9, True), (9, True), (9.9, False)):
        clock[0] += seconds
        if renews:
            trial.set_user_attr(RENEWED_KEY, next(now))
        assert not look(study, watch)
    clock[0] += 0.2
    assert look(study, watch)
    assert study.get_trials()[0].user_attrs[REASON_KEY] == (
        "its worker, process 7, gave no sign of life for 10 s."
    )


def test_who_never_signed_is_given_as_long(study) -> None:
    clock = [0.0]
    watch = Watch(study, lease_seconds=10.0, clock=lambda: clock[0])
    study.ask()
    assert not look(study, watch)
    clock[0] = 11.0
    assert look(study, watch)
    (only,) = study.get_trials()  # nothing is known of it that could be run again
    assert only.state is TrialState.FAIL


def test_after_an_outage_everybody_has_a_new_lease(study) -> None:
    clock = [0.0]
    watch = Watch(study, lease_seconds=10.0, clock=lambda: clock[0])
    leave(study, ELSEWHERE)
    look(study, watch)
    clock[0] = 100.0
    watch.forget()
    assert not look(study, watch)
    clock[0] = 111.0
    assert look(study, watch)


def test_only_long_trials_are_renewed(study) -> None:
    short, long = study.ask(), study.ask()
    with Renewal(study._storage, lease_seconds=60.0) as renewal, renewal.of(short):
        pass
    with Renewal(study._storage, lease_seconds=0.03) as renewal, renewal.of(long):
        while study.get_trials()[1].user_attrs.get(RENEWED_KEY, 0) < 3:
            time.sleep(0.005)
    assert study.get_trials()[0].user_attrs == {}


def test_the_trial_that_a_worker_is_at_is_renewed_after_one_that_was_taken_over(study) -> None:
    taken, own, left = study.ask(), study.ask(), study.ask()
    with Renewal(study._storage, lease_seconds=0.03) as renewal:
        with renewal.of(taken):
            study.tell(taken.number, state=TrialState.FAIL)
            time.sleep(0.1)
        with renewal.of(own):
            while RENEWED_KEY not in study.get_trials()[own.number].user_attrs:
                time.sleep(0.005)
        with renewal.of(left):
            pass
        time.sleep(0.1)
    assert not renewal._thread.is_alive()
    assert RENEWED_KEY not in study.get_trials()[left.number].user_attrs


def test_of_many_who_take_a_trial_over_one_wins(opener) -> None:
    leave(opener(), ELSEWHERE)
    studies = [opener() for _ in range(4)]
    seen = [study.get_trials(deepcopy=False) for study in studies]  # all of them see it run
    won = [
        hand_back(study, trials, 0, "gone.", Lost.DIED)
        for study, trials in zip(studies, seen, strict=True)
    ]
    assert won == [True, False, False, False]
    assert [t.state.name for t in studies[0].get_trials()] == ["FAIL", "WAITING"]


def test_a_slow_workers_result_is_dropped(study, opener) -> None:
    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        if trial.number == 0:  # another takes it for dead while it works
            other = opener()
            hand_back(other, other.get_trials(), 0, "silent.", Lost.DIED)
        return x

    TrialLoop(study, objective, trials=2).run()
    trials = study.get_trials()
    assert [t.state.name for t in trials] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert trials[0].values is None
    assert trials[1].params == trials[0].params


def test_a_worker_that_learns_so_amid_its_trial_goes_on(study, opener) -> None:
    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        if trial.number == 0:
            other = opener()
            hand_back(other, other.get_trials(), 0, "silent.", Lost.DIED)
            with pytest.raises(UpdateFinishedTrialError):
                trial.set_user_attr("note", 1)
            trial.set_user_attr("note", 1)
        return x

    TrialLoop(study, objective, trials=1).run()
    assert [t.state.name for t in study.get_trials()] == ["FAIL", "COMPLETE"]


def test_after_some_retries_a_trial_stays_failed(study) -> None:
    leave(study, dead_process())
    for _ in range(MOST_RETRIES):
        assert look(study)
        leave(study, dead_process())
    assert look(study)
    trials = study.get_trials()
    assert [t.state.name for t in trials] == ["FAIL"] * (1 + MOST_RETRIES)
    assert len({t.params["x"] for t in trials}) == 1
    assert "So it went 4 times, and it is not tried again." in trials[-1].user_attrs[REASON_KEY]
    assert not look(study)


def test_stops_do_not_count_against_a_trial(study) -> None:
    trial = leave(study, Worker.here())
    for _ in range(2 * MOST_RETRIES):
        assert hand_back(study, study.get_trials(), trial.number, "stopped.", Lost.STOPPED)
        trial = leave(study, Worker.here())
    assert trial.number == 2 * MOST_RETRIES


def copies(trials: list[FrozenTrial]) -> Iterator[int]:
    for trial in trials:
        if not is_twin(trials, trial.number):
            yield trial.number


def test_who_dies_between_failing_and_enqueuing_is_replaced_by_who_looks_next(
    study, opener
) -> None:
    trial = leave(study, ELSEWHERE)
    study._storage.set_trial_user_attr(trial._trial_id, LOST_KEY, Lost.DIED.value)
    study.tell(trial.number, state=TrialState.FAIL)  # and here it dies
    assert look(study)
    assert [t.state.name for t in study.get_trials()] == ["FAIL", "WAITING"]
    assert not look(study)


def test_a_retry_that_two_enqueue_is_run_once(study, opener) -> None:
    trial = leave(study, ELSEWHERE)
    study._storage.set_trial_user_attr(trial._trial_id, LOST_KEY, Lost.DIED.value)
    study.tell(trial.number, state=TrialState.FAIL)
    seen = study.get_trials(deepcopy=False)
    assert repair(study, seen)
    assert repair(opener(), seen)  # it had looked at the same moment
    assert list(copies(study.get_trials())) == [0, 1]
    run: list[int] = []

    def objective(trial: optuna.Trial) -> float:
        run.append(trial.number)
        return trial.suggest_float("x", 0, 1)

    TrialLoop(study, objective, trials=2).run()
    trials = study.get_trials()
    assert run == [1, 3]
    assert [t.state.name for t in trials] == ["FAIL", "COMPLETE", "FAIL", "COMPLETE"]
    assert trials[2].user_attrs[REASON_KEY] == "another proposes the same."
    assert trials[1].params == trials[0].params
