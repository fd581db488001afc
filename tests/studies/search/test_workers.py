"""Workers: counting, failing, dying, stopping."""

import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import optuna
import pytest
from search_accounts import check_accounts
from search_objectives import make_broken, make_deadly, make_square, make_suicidal
from search_running import begun_by, evaluations, kill_two_of_four, start_command, wait_for

from fedhq.studies.search.storage.errors import WorkerError
from fedhq.studies.search.storage.places import open_storage
from fedhq.studies.search.workers.pool import Order, check_workers, run_order
from fedhq.studies.search.workers.progress import Progress
from fedhq.studies.search.workers.signature import Worker
from fedhq.studies.search.workers.worker import TrialLoop


@pytest.fixture
def place(tmp_path) -> str:
    path = str(tmp_path / "journal.log")
    optuna.create_study(storage=open_storage(path, may_create=True), study_name="s")
    return path


def reopened(place: str) -> optuna.Study:
    return optuna.load_study(study_name="s", storage=open_storage(place))


def order(place: str, make_tools, trials: int, worker: int = 0) -> Order:
    return Order(place, "s", make_tools, trials, worker=worker)


def test_one_worker_makes_as_many_trials_as_asked_for_and_goes_on_later(place, tmp_path) -> None:
    make = partial(make_square, str(evaluations(tmp_path)), 0.0)
    told: list[Progress] = []
    for total in (5, 5, 8):
        run_order(order(place, make, total), 1, told.append)
        check_accounts(reopened(place), total, evaluations(tmp_path))
    best = min(t.value for t in reopened(place).get_trials())
    assert told[-1] == Progress(done=8, total=8, running=0, failed=0, least=(best,))
    assert told[0] == Progress(done=0, total=5, running=0, failed=0, least=())


def test_the_same_worker_makes_the_same_trials(tmp_path) -> None:
    found = []
    for k, worker in enumerate((3, 3, 4)):
        place = str(tmp_path / f"{k}.log")
        optuna.create_study(storage=open_storage(place, may_create=True), study_name="s")
        make = partial(make_square, str(evaluations(tmp_path)), 0.0)
        run_order(order(place, make, 12, worker), 1)
        found.append([t.params for t in reopened(place).get_trials()])
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_pruned_trials_count_and_failed_ones_do_not(place) -> None:
    study = reopened(place)

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        if trial.number % 3 == 0:
            raise optuna.TrialPruned
        if trial.number % 3 == 1:
            raise ValueError(f"x = {x}\nis no good")
        return x

    TrialLoop(study, objective, trials=6).run()
    states = [t.state.name for t in study.get_trials()]
    assert states == ["PRUNED", "FAIL", "COMPLETE"] * 3
    failed = study.get_trials()[1]
    assert failed.user_attrs["reason"] == f"ValueError: x = {failed.params['x']} is no good."


def test_a_value_that_is_none_fails_its_trial(place) -> None:
    study = reopened(place)
    returned = iter([float("nan"), (1.0, 2.0), 3.0])
    TrialLoop(study, lambda trial: next(returned), trials=1).run()
    assert [t.state.name for t in study.get_trials()] == ["FAIL", "FAIL", "COMPLETE"]
    assert "nan" in study.get_trials()[0].user_attrs["reason"]


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_same_failure_again_and_again_ends_the_search(place, workers, tmp_path) -> None:
    with pytest.raises(WorkerError, match="5 trials in a row failed in the same way") as caught:
        run_order(order(place, make_broken, 100), workers)
    assert "RuntimeError: no data for 0." in str(caught.value)
    trials = reopened(place).get_trials()
    failed = [t for t in trials if t.state.name == "FAIL"]
    assert len(failed) >= 5
    assert all(t.user_attrs["reason"] for t in failed)
    # What the other worker was at, which was stopped, is left to the next.
    assert len(trials) - len(failed) < workers
    make = partial(make_square, str(evaluations(tmp_path)), 0.0)
    run_order(replace(order(place, make, 3), lease_seconds=2.0), 1)
    states = [t.state.name for t in reopened(place).get_trials()]
    assert states.count("COMPLETE") == 3
    assert set(states) == {"FAIL", "COMPLETE"}


def test_ctrl_c_leaves_the_trial_to_the_next(place) -> None:
    study = reopened(place)

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        if trial.number == 1:
            raise KeyboardInterrupt
        return x

    with pytest.raises(KeyboardInterrupt):
        TrialLoop(study, objective, trials=3).run()
    states = [t.state.name for t in study.get_trials()]
    assert states == ["COMPLETE", "FAIL", "WAITING"]
    TrialLoop(study, objective, trials=3).run()
    trials = study.get_trials()
    assert [t.state.name for t in trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert trials[2].params == trials[1].params
    assert Progress.of(trials, 3).failed == 0  # it was tried again


@pytest.mark.parametrize("is_proposed", [False, True])
def test_who_asks_at_the_same_moment_as_another_does_not_make_one_too_many(
    place, is_proposed
) -> None:
    mine, other = reopened(place), reopened(place)
    if is_proposed:
        for x in (0.25, 0.5):
            mine.enqueue_trial({"x": x})
    theirs: list[optuna.Trial] = []

    def another_asks(trials) -> None:
        """Between my look, which finds one trial missing, and my asking for it."""
        if not theirs:
            theirs.append(other.ask())
        elif theirs[0].number == 0 and len(trials) > 1 and trials[0].state.name == "RUNNING":
            other.tell(theirs[0], 1.0)

    run: list[int] = []

    def objective(trial: optuna.Trial) -> float:
        run.append(trial.number)
        return trial.suggest_float("x", 0, 1)

    TrialLoop(mine, objective, trials=1, on_look=another_asks).run()
    assert run == []
    trials = mine.get_trials()
    assert [t.state.name for t in trials[:2]] == ["COMPLETE", "FAIL"]
    assert trials[1].user_attrs["reason"] == "one more than asked for."
    assert Progress.of(trials, 1).failed == 0
    left = [t.system_attrs["fixed_params"] for t in trials[2:]]
    assert left == ([{"x": 0.5}] if is_proposed else [])  # for whoever asks for more
    assert {t.state.name for t in trials[2:]} <= {"WAITING"}


def test_numbers_of_workers_are_checked() -> None:
    with pytest.raises(ValueError, match="--workers 0: must be at least 1"):
        check_workers("journal.log", 0)
    with pytest.raises(ValueError, match="--workers 2: must be 1 with SQLite"):
        check_workers("sqlite:///studies.db", 2)
    check_workers("sqlite:///studies.db", 1)


@pytest.mark.slow
def test_workers_that_are_killed_are_replaced_and_their_trials_run_again(place, tmp_path) -> None:
    make = partial(make_deadly, str(evaluations(tmp_path)))
    run_order(order(place, make, 20), 3)
    trials = reopened(place).get_trials()
    done = [t for t in trials if t.state.name == "COMPLETE"]
    assert len(done) == 20
    dead = [t for t in trials if t.number % 3 == 0 and "retry_of" not in t.user_attrs]
    assert len(dead) >= 3
    again = {t.user_attrs.get("retry_of"): t for t in done}
    for trial in dead:
        assert trial.state.name == "FAIL"
        assert "died" in trial.user_attrs["reason"]
        assert again[trial.number].params == trial.params


@pytest.mark.slow
def test_a_trial_that_kills_every_worker_ends_the_search(place) -> None:
    with pytest.raises(WorkerError, match=r"5 workers died \(exit code -9\)"):
        run_order(order(place, make_suicidal, 10), 2)
    running = [t for t in reopened(place).get_trials() if t.state.name == "RUNNING"]
    # The other may have been stopped between asking and signing: a trial that is nobody's yet.
    assert len(running) <= 1
    assert all(Worker.of(t.user_attrs) is None for t in running)


@pytest.mark.slow
def test_two_of_four_workers_are_killed_amid_their_trials(place, tmp_path) -> None:
    kill_two_of_four(place, tmp_path)
    check_accounts(reopened(place), 24, evaluations(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_command_that_is_stopped_leaves_no_process_and_goes_on(place, tmp_path, how) -> None:
    command = start_command(tmp_path, place, trials=12, workers=2, seconds=0.4)
    wait_for(lambda: len(begun_by(tmp_path)) == 2 and any(evaluations(tmp_path).glob("*.ended")))
    workers = begun_by(tmp_path)
    command.send_signal(how)  # to the parent alone
    command.communicate(timeout=60)
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    for path in evaluations(tmp_path).glob("*.begun"):
        path.rename(path.with_suffix(".killed"))
    left = [t for t in reopened(place).get_trials() if t.state.name == "RUNNING"]
    assert len(left) == (2 if how == signal.SIGKILL else 0)
    run_order(order(place, partial(make_square, str(evaluations(tmp_path)), 0.0), 12), 1)
    check_accounts(reopened(place), 12, evaluations(tmp_path))
