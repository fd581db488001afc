"""Workers: counting, failing, dying, stopping."""

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import optuna
import pytest
from fedhq.studies.search.errors import WorkerError
from fedhq.studies.search.samplers import make_pruner, make_sampler
from fedhq.studies.search.storage import open_storage
from fedhq.studies.search.worker import TrialLoop
from fedhq.studies.search.workers import Order, Progress, check_workers, run_order
from search_accounts import check_accounts
from search_objectives import make_broken, make_deadly, make_square, make_suicidal

RUN = """
import sys
from functools import partial
from fedhq.studies.search.workers import Order, run_order
import search_objectives
if __name__ == "__main__":
    place, folder, trials, workers, seconds, seed = sys.argv[1:]
    make = partial(search_objectives.make_square, folder, float(seconds))
    run_order(Order(place, "s", make, int(trials), "random", int(seed), lease_seconds=5.0),
              int(workers))
"""


def start_command(
    folder: Path, place: str, trials: int, workers: int, seconds: float, seed: int = 0
) -> subprocess.Popen:
    """Works in a process of its own, which has a session of its own."""
    script = folder / "run.py"
    script.write_text(RUN, "utf-8")
    tests = str(Path(__file__).parents[2])
    path = os.pathsep.join([tests, *filter(None, [os.environ.get("PYTHONPATH")])])
    arguments = [place, evaluations(folder), trials, workers, seconds, seed]
    return subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def evaluations(folder: Path) -> Path:
    path = folder / "evaluations"
    path.mkdir(exist_ok=True)
    return path


def wait_for(condition, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def begun_by(folder: Path) -> set[int]:
    """Processes that are amid a trial."""
    return {int(path.name.split(".")[1]) for path in evaluations(folder).glob("*.begun")}


@pytest.fixture
def place(tmp_path) -> str:
    path = str(tmp_path / "journal.log")
    optuna.create_study(storage=open_storage(path, may_create=True), study_name="s")
    return path


def reopened(place: str) -> optuna.Study:
    return optuna.load_study(study_name="s", storage=open_storage(place))


def order(place: str, make_objective, trials: int, **changes) -> Order:
    return Order(place, "s", make_objective, trials, **{"sampler": "random", **changes})


def test_one_worker_makes_as_many_trials_as_asked_for_and_goes_on_later(place, tmp_path) -> None:
    make = partial(make_square, str(evaluations(tmp_path)))
    told: list[Progress] = []
    for total in (5, 5, 8):
        run_order(order(place, make, total), 1, told.append)
        check_accounts(reopened(place), total, evaluations(tmp_path))
    best = min(t.value for t in reopened(place).get_trials())
    assert told[-1] == Progress(done=8, total=8, running=0, failed=0, least=(best,))
    assert told[0] == Progress(done=0, total=5, running=0, failed=0, least=())


def test_the_same_seed_makes_the_same_trials(tmp_path) -> None:
    found = []
    for k, seed in enumerate((3, 3, 4)):
        place = str(tmp_path / f"{k}.log")
        optuna.create_study(storage=open_storage(place, may_create=True), study_name="s")
        make = partial(make_square, str(evaluations(tmp_path)))
        run_order(order(place, make, 12, sampler="tpe", seed=seed), 1)
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
def test_the_same_failure_again_and_again_ends_the_search(place, workers) -> None:
    with pytest.raises(WorkerError, match="5 trials in a row failed in the same way") as caught:
        run_order(order(place, make_broken, 100), workers)
    assert "RuntimeError: no data for 0." in str(caught.value)
    trials = reopened(place).get_trials()
    assert {t.state.name for t in trials} == {"FAIL"}
    assert all(t.user_attrs["reason"] for t in trials)


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


def test_never_are_more_trials_done_than_asked_for(tmp_path) -> None:
    """Threads that ask at the same moment, with retries of low and of high numbers between."""
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(storage=storage, study_name="s")
    barrier = threading.Barrier(6)

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        if trial.number % 4 == 1:
            raise ValueError(f"{trial.number}")
        return x

    def work(seed: int) -> None:
        sampler = optuna.samplers.RandomSampler(seed)
        study = optuna.load_study(study_name="s", storage=storage, sampler=sampler)
        barrier.wait()
        TrialLoop(study, objective, trials=25).run()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    states = [t.state.name for t in optuna.load_study(study_name="s", storage=storage).trials]
    assert states.count("COMPLETE") == 25
    assert set(states) <= {"COMPLETE", "FAIL"}


def test_numbers_of_workers_are_checked() -> None:
    with pytest.raises(ValueError, match="--workers 0: must be at least 1"):
        check_workers("journal.log", 0)
    with pytest.raises(ValueError, match="--workers 2: must be 1 with SQLite"):
        check_workers("sqlite:///studies.db", 2)
    check_workers("sqlite:///studies.db", 1)


def test_samplers_by_name() -> None:
    kinds = {name: type(make_sampler(name, 0, 40)).__name__ for name in ("tpe", "nsga2", "random")}
    assert kinds == {"tpe": "TPESampler", "nsga2": "NSGAIISampler", "random": "RandomSampler"}
    with pytest.raises(ValueError, match="must be one of tpe, nsga2, gp, random"):
        make_sampler("grid", 0, 40)
    assert type(make_pruner(True)).__name__ == "WilcoxonPruner"
    assert type(make_pruner(False)).__name__ == "NopPruner"


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
    assert "RUNNING" not in {t.state.name for t in reopened(place).get_trials()}


@pytest.mark.slow
def test_two_of_four_workers_are_killed_amid_their_trials(place, tmp_path) -> None:
    kill_two_of_four(place, tmp_path)
    check_accounts(reopened(place), 24, evaluations(tmp_path))


def kill_two_of_four(place: str, folder: Path) -> None:
    """Works with four workers, of which two are killed amid a trial."""
    command = start_command(folder, place, trials=24, workers=4, seconds=0.3)
    for _ in range(2):
        wait_for(lambda: begun_by(folder))
        victim = min(begun_by(folder))
        os.kill(victim, signal.SIGKILL)
        for path in evaluations(folder).glob(f"*.{victim}.begun"):
            path.rename(path.with_suffix(".killed"))
    assert command.wait(timeout=120) == 0, command.stderr.read()
    command.stderr.close()
    assert len(list(evaluations(folder).glob("*.killed"))) >= 2


@pytest.mark.slow
def test_two_commands_share_a_study(place, tmp_path) -> None:
    share(place, tmp_path)
    check_accounts(reopened(place), 20, evaluations(tmp_path))


def share(place: str, folder: Path) -> None:
    commands = [start_command(folder, place, 20, 2, 0.1, seed=10 * k) for k in range(2)]
    for command in commands:
        assert command.wait(timeout=120) == 0, command.stderr.read()
        command.stderr.close()


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
    run_order(order(place, partial(make_square, str(evaluations(tmp_path))), 12), 1)
    check_accounts(reopened(place), 12, evaluations(tmp_path))
