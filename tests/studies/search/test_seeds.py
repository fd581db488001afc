"""Trials that come first: arms, points of the exact frontier, the front of a screening."""

from dataclasses import replace

import numpy as np
import optuna
import pytest
from search_tables import PICK_LOSS, modelled, of_table, tiny, write_table

from fedhq.allocator import Uniform, pareto_frontier, solve
from fedhq.allocator.instances.families import SEPARABLE_FAMILIES
from fedhq.studies.search.config.settings import parse_search
from fedhq.studies.search.trials.objective import Objective
from fedhq.studies.search.trials.policy import Policies
from fedhq.studies.search.trials.sampling import make_sampler
from fedhq.studies.search.trials.screening import modelled_config, screened
from fedhq.studies.search.trials.seeds import frontier_trials, own_values, seed_trials, spread

KNOBS = {
    "pick_loss": (PICK_LOSS, {}),
    "tradeoff": ({"low": 0.01, "high": 1e4, "log": True}, {"solver": "exact"}),
    "max_loss": ({"low": 0.0, "high": 1.0}, {"solver": "exact"}),
    "deadline_seconds": ({"low": 0.1, "high": 100.0}, {"solver": "exact"}),
}


def supported(frontier) -> set[int]:
    """Points that are best for some trade-off, by trying ten thousand."""
    tradeoffs = np.geomspace(1e-4, 1e6, 10_000)[:, None]
    return set(np.argmin(frontier.round_seconds + tradeoffs * frontier.loss, axis=1).tolist())


@pytest.mark.parametrize("knob", KNOBS)
def test_seeds_of_the_frontier_reach_supported_points_of_it(tmp_path, knob) -> None:
    problem = replace(SEPARABLE_FAMILIES["federated"](1, 40), tradeoff=None)
    frontier = pareto_frontier(problem)
    corners = supported(frontier)
    points = {(frontier.round_seconds[k], frontier.loss[k]) for k in corners}
    values, allocation = KNOBS[knob]
    path = write_table(tmp_path / "fleet.json", problem)
    policies = Policies(parse_search(of_table(path, {knob: values}, allocation)))
    seeds = frontier_trials(policies)
    assert min(5, len(points)) <= len(seeds) <= 8
    for seed in seeds:
        assert seed.source == "frontier"
        measures = policies.plan(seed.params).measures
        here = measures["round_seconds"], measures["accuracy_loss"]
        assert min(np.hypot(here[0] - t, here[1] - loss) for t, loss in points) < 1e-9


def test_points_are_spread_over_the_lower_hull_and_its_ends_are_among_them() -> None:
    frontier = pareto_frontier(replace(SEPARABLE_FAMILIES["random"](4, 60), deadline_seconds=None))
    corners = supported(frontier)
    every = spread(frontier.round_seconds, frontier.loss, 10_000)
    assert set(every.tolist()) == corners
    few = spread(frontier.round_seconds, frontier.loss, 4)
    assert len(few) == min(4, len(corners))
    assert set(few.tolist()) <= corners
    assert (few[0], few[-1]) == (0, len(frontier) - 1)
    assert spread(np.array([2.0]), np.array([0.5]), 8).tolist() == [0]


def test_limits_that_nobody_set_are_loosest_and_other_keys_keep_their_own_value() -> None:
    space = {
        "allocation.pick_loss": PICK_LOSS,
        "allocation.deadline_seconds": {"low": 0.01, "high": 9.0},
        "allocation.min_participation": {"low": 0.1, "high": 0.9},
        "training.learning_rate": {"low": 0.01, "high": 0.3, "log": True},
        "training.momentum": {"low": 0.5, "high": 0.9},
        "training.local_epochs": {"low": 1, "high": 3},
        "menu": {"choices": [["ptq-w2a2", "qat-w2a2"], ["skip", "ptq-w2a2", "qat-w2a2"]]},
        "bits": {"choices": [2, 3]},
        "wire_bits": {"choices": [3, 8]},
    }
    assert own_values(parse_search(tiny(space=space))) == {
        "allocation.deadline_seconds": 9.0,
        "allocation.min_participation": 0.1,
        "training.learning_rate": 0.1,
        "training.local_epochs": 1,  # momentum is 0 and wire_bits 4, which the space does not hold
        "menu": '["skip", "ptq-w2a2", "qat-w2a2"]',
        "bits": 2,
    }


def test_arms_come_first_and_show_in_the_study_as_what_they_are(tmp_path) -> None:
    problem = SEPARABLE_FAMILIES["federated"](1, 20)
    path = write_table(tmp_path / "fleet.json", problem)
    config = parse_search(of_table(path, {"pick_loss": PICK_LOSS}))
    objective = Objective(config, tmp_path)
    seeds = seed_trials(objective.policies)
    assert [s.params.get("arm") for s in seeds[:3]] == ["ptq-w2a2", "qat-w2a2", None]
    study = optuna.create_study(
        directions=["minimize"] * 2, sampler=make_sampler(config, objective.space)
    )
    for seed in seeds[:2]:
        study.enqueue_trial(seed.params, {"source": seed.source})
    study.optimize(objective, 2)
    for trial, name in zip(study.trials, ("ptq-w2a2", "qat-w2a2"), strict=True):
        expected = solve(problem, Uniform(name)).allocation
        assert trial.user_attrs["source"] == "uniform"
        assert trial.params == {"arm": name}
        assert trial.values == pytest.approx([expected.round_seconds, expected.loss])


def test_gp_is_given_no_arms_which_it_cannot_take() -> None:
    seeds = seed_trials(Policies(parse_search(modelled(sampler="gp"))))
    assert {s.source for s in seeds} == {"frontier"}


def test_a_space_without_a_knob_has_no_points_of_the_frontier() -> None:
    table = modelled(space={"wire_bits": {"choices": [3, 4]}})
    assert frontier_trials(Policies(parse_search(table))) == []


def test_a_searched_solver_is_one_that_reads_the_knob() -> None:
    space = {
        "allocation.tradeoff": {"low": 0.01, "high": 100.0, "log": True},
        "allocation.solver": {"choices": ["fedhq", "dual"]},
    }
    seeds = frontier_trials(Policies(parse_search(modelled(space=space))))
    assert len(seeds) > 3
    assert {s.params["allocation.solver"] for s in seeds} == {"dual"}


def test_a_screening_proposes_its_front_and_nothing_that_was_proposed() -> None:
    space = {
        "allocation.pick_loss": PICK_LOSS,
        "wire_bits": {"choices": [3, 4, 8]},
        "training.learning_rate": {"low": 0.01, "high": 0.3, "log": True},
    }
    config = parse_search(tiny(space=space, screen_trials=40) | {"partition": {"num_clients": 12}})
    policies = Policies(config)
    seeds = seed_trials(policies)
    points = {
        source: [policies.plan(s.params).measures for s in seeds if s.source == source]
        for source in ("frontier", "screen")
    }
    assert 1 <= len(points["screen"]) <= 8
    assert all(s.params["training.learning_rate"] == 0.1 for s in seeds if s.source == "screen")
    keys = "round_seconds", "accuracy_loss"
    front = np.array([[m[k] for k in keys] for m in points["screen"]])
    given = np.array([[m[k] for k in keys] for m in points["frontier"]])
    both = np.concatenate([front, given])
    for point in front:
        better = (both <= point).all(axis=1) & (both < point).any(axis=1)
        assert not better.any()
        assert not (given == point).all(axis=1).any()
    assert (np.diff(front[:, 0]) > 0).all()


def test_screening_searches_what_the_model_knows() -> None:
    space = {"allocation.pick_loss": PICK_LOSS, "training.local_epochs": {"low": 1, "high": 3}}
    limits = {"accuracy_loss": 0.5, "uplink_bytes": 9e9, "seconds_to_target": 3.0}
    table = tiny(
        space=space, limits=limits, objectives=["seconds_to_target", "accuracy_loss"], tradeoff=2.0
    )
    config = modelled_config(parse_search(table))
    assert config.is_modelled
    assert list(config.space) == ["allocation.pick_loss"]
    assert config.search.limits == {"uplink_bytes": 9e9}
    assert config.search.objectives == ("round_seconds", "accuracy_loss")
    assert screened(config, []) == []  # in the model nothing comes before
