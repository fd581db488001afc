"""The solver-seeded sampler: Optuna's own conformance tests, and that each seed is tried once."""

import math
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import optuna
import optunahub
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
)
from optuna.trial import TrialState

from fedhq.allocator import AllocationProblem, Dual, Exact, pareto_frontier, solve
from fedhq.allocator.instances import FAMILIES

REGISTRY = Path(__file__).parents[2] / "studies" / "optunahub" / "package"
hub = optunahub.load_local_module("samplers/solver_seeded", registry_root=str(REGISTRY))
SolverSeededSampler, allocation_seeds = hub.SolverSeededSampler, hub.allocation_seeds
nearest = sys.modules[f"{hub.__name__}._sampler"].nearest
SEED_KEY = "solver_seeded:seed"
SEEDS = [{"x": float(k), "y": k} for k in range(1, 7)]


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(optuna.logging.INFO)


class TestWithTPE(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    """The tests that Optuna's own samplers pass; the seeds name some or none of what occurs."""

    @pytest.fixture
    def sampler(self):
        seeds = [{"x": 1, "z": 0.5}, {"x": 1}, {"other": 3}]
        return lambda: SolverSeededSampler(seeds, TPESampler(n_startup_trials=0))


class TestWithRandom(BasicSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self):
        return lambda: SolverSeededSampler([{"x": 1}], RandomSampler(seed=0))


class TestWithNSGAII(BasicSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self):
        return lambda: SolverSeededSampler([{"x": 1}], NSGAIISampler(seed=0))


def one_value(trial):
    return trial.suggest_float("x", -10, 10) ** 2 + trial.suggest_int("y", 0, 9)


def two_values(trial):
    return trial.suggest_float("x", -10, 10) ** 2, trial.suggest_int("y", 0, 9)


def constrained(trial):
    value = one_value(trial)
    trial.set_constraint("x", 2.5 - trial.params["x"])
    return value


def placed(study):
    """By seed, the parameters of the trials that say that they tried it."""
    tried = {}
    for trial in study.trials:
        if SEED_KEY in trial.system_attrs:
            tried.setdefault(trial.system_attrs[SEED_KEY], []).append(trial.params)
    return tried


EACH_ONCE = {k: [seed] for k, seed in enumerate(SEEDS)}


@pytest.mark.parametrize("objective", [one_value, two_values, constrained])
def test_the_trials_are_those_of_a_study_in_which_the_seeds_were_enqueued(objective):
    directions = ["minimize"] * (2 if objective is two_values else 1)
    seeded = optuna.create_study(
        directions=directions, sampler=SolverSeededSampler(SEEDS, TPESampler(seed=3))
    )
    enqueued = optuna.create_study(directions=directions, sampler=TPESampler(seed=3))
    for seed in SEEDS:
        enqueued.enqueue_trial(seed)
    for study in (seeded, enqueued):
        study.optimize(objective, n_trials=25)
    assert [t.params for t in seeded.trials] == [t.params for t in enqueued.trials]


@pytest.mark.parametrize(
    "inner",
    [TPESampler, NSGAIISampler, RandomSampler, pytest.param(GPSampler, marks=pytest.mark.slow)],
)
def test_any_sampler_goes_on_after_the_seeds(inner):
    study = optuna.create_study(sampler=SolverSeededSampler(SEEDS, inner(seed=0)))
    study.optimize(one_value, n_trials=15)
    assert placed(study) == EACH_ONCE
    assert len({t.params["x"] for t in study.trials}) == 15


def test_threads_share_the_seeds_out_among_them():
    study = optuna.create_study(sampler=SolverSeededSampler(SEEDS, RandomSampler(seed=0)))
    study.optimize(one_value, n_trials=20, n_jobs=4)
    assert placed(study) == EACH_ONCE


WORKER = """
import sys, warnings, optuna, optunahub
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
registry, log, seeds = sys.argv[1], sys.argv[2], eval(sys.argv[3])
hub = optunahub.load_local_module("samplers/solver_seeded", registry_root=registry)
study = optuna.create_study(
    study_name="shared", storage=JournalStorage(JournalFileBackend(log)), load_if_exists=True,
    sampler=hub.SolverSeededSampler(seeds),
)
study.optimize(
    lambda t: t.suggest_float("x", -10, 10) ** 2 + t.suggest_int("y", 0, 9), n_trials=5
)
"""


@pytest.mark.slow
def test_processes_that_know_nothing_of_each_other_try_every_seed_once(tmp_path):
    log = tmp_path / "journal.log"
    command = [sys.executable, "-c", WORKER, str(REGISTRY), str(log), repr(SEEDS)]
    workers = [subprocess.Popen(command) for _ in range(3)]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0, 0]
    backend = optuna.storages.journal.JournalFileBackend(str(log))
    storage = optuna.storages.JournalStorage(backend)
    study = optuna.load_study(study_name="shared", storage=storage)
    assert len(study.trials) == 15
    assert placed(study) == EACH_ONCE


def test_a_resumed_study_goes_on_with_the_next_seed():
    storage = optuna.storages.InMemoryStorage()
    for _ in range(4):
        study = optuna.create_study(
            study_name="resumed",
            storage=storage,
            load_if_exists=True,
            sampler=SolverSeededSampler(SEEDS),
        )
        study.optimize(one_value, n_trials=2)
    assert [t.params for t in study.trials[:6]] == SEEDS
    assert placed(study) == EACH_ONCE


def test_a_study_that_was_begun_without_seeds_takes_them_after_its_trials():
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    study.optimize(one_value, n_trials=7)
    study.sampler = SolverSeededSampler(SEEDS, after=7)
    study.optimize(one_value, n_trials=8)
    assert [t.params for t in study.trials[7:13]] == SEEDS
    assert placed(study) == EACH_ONCE


def test_enqueued_trials_keep_their_parameters_and_take_no_seed_away():
    study = optuna.create_study(sampler=SolverSeededSampler(SEEDS))
    own = [{"x": -7.0, "y": 7}, {"x": -8.0, "y": 8}]
    study.enqueue_trial(own[0])
    study.optimize(one_value, n_trials=3)
    study.enqueue_trial(own[1])
    study.optimize(one_value, n_trials=7)
    assert [study.trials[k].params for k in (0, 3)] == own
    assert placed(study) == EACH_ONCE


def lose(study, trial):
    """What Optuna does to a trial whose worker gave no sign of life."""
    study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
        retry = optuna.storages.RetryHeartbeatStaleTrialCallback()
    retry(study, study._storage.get_trial(trial._trial_id))


def finished(study):
    """By seed, the parameters of the trials that ended well."""
    done = [t for t in study.trials if t.state is TrialState.COMPLETE]
    return {k: [t.params for t in done if t.system_attrs.get(SEED_KEY) == k] for k in range(6)}


def test_a_trial_whose_worker_died_after_suggesting_is_repeated_and_swallows_no_seed():
    study = optuna.create_study(sampler=SolverSeededSampler(SEEDS, RandomSampler(seed=0)))
    study.optimize(one_value, n_trials=2)
    first = study.ask()
    assert first.suggest_float("x", -10, 10) == SEEDS[2]["x"]  # and dies before it asks for y
    lose(study, first)
    study.optimize(one_value, n_trials=9)
    assert finished(study) == EACH_ONCE
    assert [t.params for t in study.trials if t.number in (2, 3)] == [{"x": 3.0}, SEEDS[2]]


@pytest.mark.parametrize("deaths", [1, 3])
@pytest.mark.parametrize("seed", [0, 2, 5])
def test_a_trial_whose_worker_died_before_suggesting_is_repeated_with_its_seed(seed, deaths):
    study = optuna.create_study(sampler=SolverSeededSampler(SEEDS, RandomSampler(seed=0)))
    study.optimize(one_value, n_trials=seed)
    lost = study._storage.get_trial(study._storage.create_new_trial(study._study_id))
    study.optimize(one_value, n_trials=8 - seed)  # others go on, until no seed is left
    assert finished(study) == EACH_ONCE | {seed: []}
    for _ in range(deaths - 1):
        lose(study, lost)
        lost = study._storage.get_trial(study._pop_waiting_trial_id())
    lose(study, lost)
    study.optimize(one_value, n_trials=2)
    assert finished(study) == EACH_ONCE
    assert SEED_KEY not in study.trials[-1].system_attrs


def test_an_enqueued_trial_whose_worker_died_takes_no_seed_when_it_is_repeated():
    study = optuna.create_study(sampler=SolverSeededSampler(SEEDS, RandomSampler(seed=0)))
    study.enqueue_trial({"x": -7.0, "y": 7})
    lose(study, study.ask())
    study.optimize(one_value, n_trials=8)
    assert finished(study) == EACH_ONCE
    assert study.trials[1].params == {"x": -7.0, "y": 7}


@pytest.mark.slow
def test_optuna_itself_repeats_what_gave_no_sign_of_life(tmp_path):
    with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{tmp_path / 'study.db'}",
            heartbeat_interval=1,
            grace_period=1,
            heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
        )
    study = optuna.create_study(
        storage=storage, sampler=SolverSeededSampler(SEEDS, RandomSampler(seed=0))
    )
    with pytest.warns(UserWarning, match="supposed to be used with Study.optimize"):
        suggested = study.ask()
    silent = storage.create_new_trial(study._study_id)
    suggested.suggest_float("x", -10, 10)
    for trial_id in (suggested._trial_id, silent):
        storage.record_heartbeat(trial_id)
    time.sleep(2.1)
    study.optimize(one_value, n_trials=8)
    assert [t.number for t in study.trials if t.state is TrialState.FAIL] == [0, 1]
    assert finished(study) == EACH_ONCE
    storage.engine.dispose()


def test_a_pruner_that_shows_the_sampler_a_part_of_the_study_changes_nothing():
    study = optuna.create_study(
        sampler=SolverSeededSampler(SEEDS), pruner=optuna.pruners.HyperbandPruner()
    )
    study.enqueue_trial({"x": 9.0})
    study.optimize(one_value, n_trials=10)
    assert placed(study) == EACH_ONCE


def test_what_a_seed_does_not_name_is_left_to_the_inner_sampler():
    seeds = [{"x": 2.0}] * 20
    study = optuna.create_study(sampler=SolverSeededSampler(seeds, TPESampler(seed=0)))
    study.optimize(one_value, n_trials=20)
    assert {t.params["x"] for t in study.trials} == {2.0}
    assert len({t.params["y"] for t in study.trials}) > 3


def test_once_the_seeds_are_spent_no_trial_is_read_for_them(monkeypatch):
    sampler = SolverSeededSampler(SEEDS, RandomSampler(seed=0))
    study = optuna.create_study(sampler=sampler)
    study.optimize(one_value, n_trials=len(SEEDS) + 1)
    later = [study.ask()._cached_frozen_trial for _ in range(2)]
    monkeypatch.setattr(study._storage, "get_all_trials", None)
    for trial in later:
        sampler.before_trial(study, trial)


def test_seeds_are_made_when_the_first_trial_starts_and_once():
    calls = []

    def make():
        calls.append(1)
        return SEEDS

    sampler = SolverSeededSampler(make)
    study = optuna.create_study(sampler=sampler)
    assert calls == []
    study.optimize(one_value, n_trials=8)
    assert calls == [1]
    assert placed(study) == EACH_ONCE


def test_reseeding_moves_the_inner_sampler_and_no_seed():
    studies = []
    for reseeded in (False, False, True):
        sampler = SolverSeededSampler(SEEDS, RandomSampler(seed=0))
        if reseeded:
            sampler.reseed_rng()
        studies.append(optuna.create_study(sampler=sampler))
        studies[-1].optimize(one_value, n_trials=10)
    same, again, other = ([t.params for t in study.trials] for study in studies)
    assert same == again
    assert same[:6] == other[:6]
    assert same[6:] != other[6:]


def test_without_seeds_it_is_the_inner_sampler():
    studies = []
    for sampler in (SolverSeededSampler([], TPESampler(seed=1)), TPESampler(seed=1)):
        studies.append(optuna.create_study(sampler=sampler))
        studies[-1].optimize(one_value, n_trials=15)
    assert [t.params for t in studies[0].trials] == [t.params for t in studies[1].trials]


@pytest.mark.parametrize(
    "distribution",
    [
        FloatDistribution(-3, 5),
        FloatDistribution(-3.25, 5, step=0.75),
        FloatDistribution(0.01, 5, log=True),
        IntDistribution(-3, 5),
        IntDistribution(-4, 5, step=3),
        IntDistribution(1, 5, log=True),
    ],
)
@pytest.mark.parametrize("wanted", [-100, -3, 0.3, 1, 2.4, 4.9, 5, 7.7])
def test_a_number_moves_to_the_nearest_that_a_distribution_holds(distribution, wanted):
    found = nearest("x", wanted, distribution)
    assert distribution._contains(distribution.to_internal_repr(found))
    step = distribution.step or 1e-3
    held = [distribution.low + k * step for k in range(10_000)]
    best = min(abs(h - wanted) for h in held if h <= distribution.high)
    assert abs(found - wanted) <= best + 1e-9


def test_a_category_that_is_not_on_offer_is_the_inner_samplers_and_told():
    study = optuna.create_study(sampler=SolverSeededSampler([{"c": "z"}]))
    with pytest.warns(UserWarning, match="c = 'z', which is none of the choices"):
        study.optimize(lambda t: len(t.suggest_categorical("c", ["a", "bb"])), n_trials=1)
    assert study.trials[0].params["c"] in ("a", "bb")


@pytest.mark.parametrize("wanted", [math.nan, math.inf, "1", None])
def test_a_seed_that_is_no_number_where_one_is_needed_is_an_error(wanted):
    study = optuna.create_study(sampler=SolverSeededSampler([{"x": wanted}]))
    with pytest.raises(ValueError, match="`x` of a seed must be a finite number"):
        study.optimize(one_value, n_trials=1)


def test_wrong_arguments_are_told():
    with pytest.raises(ValueError, match="`after >= 0`"):
        SolverSeededSampler(SEEDS, after=-1)
    with pytest.raises(ValueError, match="`seeds` must be mappings"):
        SolverSeededSampler([("x", 1.0)])
    with pytest.raises(ValueError, match="`seeds` must be mappings"):
        optuna.create_study(sampler=SolverSeededSampler(lambda: [1.0])).optimize(
            one_value, n_trials=1
        )


def choice_of(problem: AllocationProblem, seed):
    menu = [str(s) for s in problem.strategies]
    return [menu.index(seed[f"client_{name}"]) for name in problem.clients]


def test_seeds_of_a_problem_are_its_optimum_and_points_of_its_frontier():
    problem = FAMILIES["federated"](2, 12)
    seeds = allocation_seeds(problem)
    frontier = pareto_frontier(problem)
    assert choice_of(problem, seeds[0]) == solve(problem, Exact()).allocation.choice.tolist()
    assert len(seeds) > 2
    for seed in seeds:
        choice = choice_of(problem, seed)
        time, loss = problem.round_seconds(choice), problem.total_loss(choice)
        least = frontier.loss[frontier.round_seconds <= time + 1e-9].min()
        assert loss == pytest.approx(least, abs=1e-6)


def test_seeds_can_be_parameters_of_any_kind_at_given_tradeoffs_by_any_solver():
    problem = replace(FAMILIES["federated"](0, 30), tradeoff=None, deadline_seconds=9.0)
    make = partial(allocation_seeds, problem, lambda a: {"deadline": a.round_seconds})
    seeds = make(tradeoffs=[1e4, 1.0], solver=Dual())
    assert seeds[-1]["deadline"] < seeds[0]["deadline"] <= 9.0
    with pytest.raises(ValueError, match="`tradeoffs` must be given"):
        make()
