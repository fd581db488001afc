"""The benchmark's optimum and front are right, and how far samplers are from them."""

import itertools
from functools import partial
from pathlib import Path

import numpy as np
import optuna
import optunahub
import pytest
from optuna._hypervolume import compute_hypervolume
from optuna.samplers import RandomSampler, TPESampler

REGISTRY = Path(__file__).parents[2] / "studies" / "optunahub" / "package"
load = partial(optunahub.load_local_module, registry_root=str(REGISTRY))
Problem = load("benchmarks/federated_precision").Problem
seeded = load("samplers/solver_seeded")


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(optuna.logging.INFO)


def feasible(problem, params):
    return all(value <= 0 for value in problem.evaluate_constraints(params).values())


def everything(problem):
    """All parameter sets of the space of categories that keep the constraints."""
    names = list(problem.search_space)
    choices = (kind.choices for kind in problem.search_space.values())
    sets = (dict(zip(names, values, strict=True)) for values in itertools.product(*choices))
    return [params for params in sets if feasible(problem, params)]


@pytest.mark.parametrize("seed", range(3))
def test_the_best_value_is_that_of_an_enumeration(seed):
    problem = Problem("clients", num_clients=5, seed=seed)
    values = [problem.evaluate(params) for params in everything(problem)]
    assert len(values) > 10
    assert problem.best_value == pytest.approx(min(values), rel=1e-9)
    for space in ("clients", "policy"):
        other = Problem(space, num_clients=5, seed=seed)
        assert other.evaluate(other.best_params) == pytest.approx(min(values), rel=1e-9)
        assert feasible(other, other.best_params)


@pytest.mark.parametrize("seed", range(3))
def test_the_front_is_that_of_an_enumeration(seed):
    problem = Problem("clients", num_clients=5, num_objectives=2, seed=seed)
    points = np.array([problem.evaluate(params) for params in everything(problem)])
    better = (points[:, None] <= points).all(-1) & (points[:, None] < points - 1e-12).any(-1)
    front = np.unique(points[~better.any(axis=0)].round(9), axis=0)
    found = [(point.round_seconds, point.loss) for point in problem.front]
    np.testing.assert_allclose(found, front, atol=1e-8)


@pytest.mark.parametrize("space", ["clients", "policy"])
def test_the_parameters_of_the_front_lead_there_and_keep_the_constraints(space):
    problem = Problem(space, num_clients=10, num_objectives=2, seed=3)
    assert len(problem.front) > 5
    for point in problem.front:
        found = problem.evaluate(point.params)
        assert found == pytest.approx((point.round_seconds, point.loss), abs=1e-6)
        assert feasible(problem, point.params)


def test_no_policy_beats_the_optimum_or_the_front():
    cost, both = (Problem("policy", 6, objectives, seed=1) for objectives in (1, 2))
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    study.optimize(cost, n_trials=16)
    kept = [t for t in study.trials if all(value <= 0 for value in t.constraints.values())]
    assert 5 < len(kept) < 16  # some plan too generously
    assert min(t.value for t in kept) >= cost.best_value - 1e-9
    for trial in kept:
        time, loss = both.evaluate(trial.params)
        assert loss >= min(p.loss for p in both.front if p.round_seconds <= time + 1e-9) - 1e-6


@pytest.mark.parametrize("space", ["clients", "policy"])
@pytest.mark.parametrize(("num_clients", "seed"), [(5, 23), (6, 2), (8, 18), (20, 5), (40, 0)])
def test_the_best_parameters_lie_in_the_search_space(space, num_clients, seed):
    problem = Problem(space, num_clients, seed=seed)
    for name, kind in problem.search_space.items():
        assert kind._contains(kind.to_internal_repr(problem.best_params[name]))
    assert problem.evaluate(problem.best_params) == pytest.approx(problem.best_value, rel=1e-6)
    assert feasible(problem, problem.best_params)


@pytest.mark.parametrize(("num_clients", "seed"), [(5, 23), (6, 2), (8, 18), (20, 5), (40, 0)])
def test_every_policy_has_an_allocation_even_the_thriftiest(num_clients, seed):
    problem = Problem("policy", num_clients, seed=seed)
    thriftiest = {name: kind.low for name, kind in problem.search_space.items()}
    assert feasible(problem, thriftiest)
    assert problem.evaluate(thriftiest) >= problem.best_value - 1e-9


def test_the_hypervolume_is_optunas():
    problem = Problem("clients", num_clients=12, num_objectives=2, seed=0)
    points = np.array([(point.round_seconds, point.loss) for point in problem.front])
    expected = compute_hypervolume(points, np.array(problem.reference_point))
    assert problem.best_hypervolume == pytest.approx(expected)


@pytest.mark.parametrize("num_objectives", [1, 2])
@pytest.mark.parametrize("space", ["clients", "policy"])
def test_a_study_gets_named_constraints_and_no_better_than_the_best(space, num_objectives):
    problem = Problem(space, 6, num_objectives, seed=0)
    sampler = RandomSampler(seed=0)
    study = optuna.create_study(directions=problem.directions, sampler=sampler)
    study.optimize(problem, n_trials=8)
    for trial in study.trials:
        assert trial.constraints == problem.evaluate_constraints(trial.params)
        assert set(trial.constraints) == {"uplink_bytes", "energy_joules", "participation"}
        value = problem.evaluate(trial.params)
        assert trial.values == ([value] if num_objectives == 1 else list(value))
    assert len(problem.metric_names) == num_objectives


def test_the_same_seed_is_the_same_problem_and_another_another():
    one, same, other = (Problem("clients", 6, seed=seed) for seed in (4, 4, 5))
    params = one.best_params
    assert same.best_params == params
    assert same.evaluate(params) == one.evaluate(params) != other.evaluate(params)


def test_one_client_more_costs_nothing_but_a_parameter_in_one_space():
    for num_clients in (5, 9):
        assert len(Problem("clients", num_clients).search_space) == num_clients
        assert len(Problem("policy", num_clients).search_space) == 3


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"space": "layers"}, "`space` must be one of"),
        ({"num_clients": 4}, "`num_clients >= 5`"),
        ({"num_objectives": 3}, "`num_objectives` must be 1 or 2"),
    ],
)
def test_wrong_arguments_are_told(arguments, rule):
    with pytest.raises(ValueError, match=rule):
        Problem(**arguments)


def best_cost(problem, sampler, n_trials):
    study = optuna.create_study(directions=problem.directions, sampler=sampler)
    study.optimize(problem, n_trials=n_trials)
    return study.best_value


@pytest.mark.parametrize("space", ["clients", "policy"])
@pytest.mark.parametrize("seed", range(2))
def test_seeded_by_a_solver_the_first_trial_is_the_optimum(space, seed):
    problem = Problem(space, 20, seed=seed)
    seeds = seeded.allocation_seeds(problem.program, problem.params_of)
    sampler = seeded.SolverSeededSampler(seeds, TPESampler(seed=0))
    assert best_cost(problem, sampler, n_trials=1) == pytest.approx(problem.best_value, rel=1e-6)


@pytest.mark.parametrize("seed", range(2))
def test_known_bad_a_category_a_client_leaves_tpe_far_above_the_optimum(seed):
    problem = Problem("clients", 20, seed=seed)
    assert best_cost(problem, TPESampler(seed=0), n_trials=100) > 1.2 * problem.best_value


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_over_the_policy_tpe_comes_within_one_per_cent(seed):
    problem = Problem("policy", 20, seed=seed)
    assert best_cost(problem, TPESampler(seed=0), n_trials=60) < 1.01 * problem.best_value


def test_seeded_with_the_front_a_study_has_all_of_its_hypervolume():
    problem = Problem("clients", 10, num_objectives=2, seed=0)
    front = [point.params for point in problem.front]
    sampler = seeded.SolverSeededSampler(front, RandomSampler(seed=0))
    study = optuna.create_study(directions=problem.directions, sampler=sampler)
    study.optimize(problem, n_trials=len(front) + 10)
    values = np.array([t.values for t in study.best_trials])
    reached = compute_hypervolume(values, np.array(problem.reference_point))
    assert reached == pytest.approx(problem.best_hypervolume)
