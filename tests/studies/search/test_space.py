"""What a trial's values make of a table, and spaces that enumerate clients."""

import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution

from fedhq.studies.search.config.space import (
    Choices,
    Range,
    changed,
    decoded,
    distributions,
    encoded,
    enumerated_clients,
    suggest,
)
from fedhq.studies.search.config.space_table import read_space

TABLE = {
    "menu": ["skip", "fp32", "ptq-w2a2", "qat-w2a2-u8"],
    "weight_bits": 2,
    "activation_bits": 2,
    "fleet": {"classes": [{"slowdown": 1.0}]},
    "allocation": {"solver": "fedhq", "strategy": "qat-w2a2", "otherwise": "skip"},
}


def test_bits_change_the_deployment_and_every_quantized_strategy() -> None:
    new = changed(TABLE, {"bits": 4})
    assert new["menu"] == ["skip", "fp32", "ptq-w4a4", "qat-w4a4-u8"]
    assert (new["weight_bits"], new["activation_bits"]) == (4, 4)
    assert new["allocation"] == {"solver": "fedhq", "strategy": "qat-w4a4", "otherwise": "skip"}


def test_wire_bits_come_after_a_menu_and_leave_floats_alone() -> None:
    new = changed(TABLE, {"wire_bits": 3, "menu": encoded(["fp32", "qat-w2a2", "qat-w2a2-u8"])})
    assert new["menu"] == ["fp32", "qat-w2a2-u3"]


def test_a_trials_values_reach_nested_keys_and_leave_the_table_as_it_was() -> None:
    new = changed(TABLE, {"fleet.classes.0.slowdown": 7.0, "clients.0": "skip"})
    assert new["fleet"]["classes"] == [{"slowdown": 7.0}]
    assert TABLE["fleet"]["classes"] == [{"slowdown": 1.0}]
    assert "clients" not in new


def test_an_arm_is_the_uniform_rule() -> None:
    allocation = changed(TABLE, {"arm": "fp32"})["allocation"]
    assert (allocation["solver"], allocation["strategy"]) == ("uniform", "fp32")


def test_optuna_suggests_every_kind_of_value_within_its_range() -> None:
    space = {
        "a": Range(1, 9, step=4),
        "b": Range(0.5, 1.5),
        "c": Range(1, 1000, log=True),
        "menu": Choices((["skip", "fp32"], ["fp32"])),
        "flag": Choices((True, False)),
    }
    kinds = distributions(space, 3)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    seen = [suggest(study.ask(kinds), kinds) for _ in range(50)]
    assert {s["a"] for s in seen} == {1, 5, 9}
    assert all(0.5 <= s["b"] <= 1.5 for s in seen)
    assert all(type(s["c"]) is int for s in seen)
    assert sorted(decoded(m) for m in {s["menu"] for s in seen}) == [["fp32"], ["skip", "fp32"]]
    assert {s["flag"] for s in seen} == {True, False}
    fixed = optuna.trial.FixedTrial(seen[0])
    assert suggest(fixed, kinds) == seen[0]


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (Range(1, 10, step=0.5), FloatDistribution(1, 10, step=0.5)),
        (Range(0, 1, step=0.1), FloatDistribution(0, 1, step=0.1)),
        (Range(0.1, 0.7, step=0.2), FloatDistribution(0.1, 0.7, step=0.2)),
        (Range(1, 10, step=3), IntDistribution(1, 10, step=3)),
        (Range(2, 2, step=3), IntDistribution(2, 2, step=3)),
    ],
)
def test_a_range_with_a_step_is_optunas_without_a_warning(given, kind) -> None:
    assert distributions({"x": given}, 1) == {"x": kind}


@pytest.mark.parametrize(
    ("given", "mend"),
    [
        ({"low": 1, "high": 10, "step": 4}, "Take high = 9."),
        ({"low": 1, "high": 10, "step": 1.5}, None),
        ({"low": 1, "high": 3, "step": 1.5}, "Take high = 2.5."),
        ({"low": 0.0, "high": 1.0, "step": 0.3}, "Take high = 0.9."),
        ({"low": 1, "high": 3, "step": 5}, "Take high = 1."),
    ],
)
def test_steps_meet_the_end_or_the_range_is_refused_as_optuna_would_shorten_it(given, mend) -> None:
    space, faults = read_space({"training.momentum": given})
    if mend is None:
        assert (space, faults) == ({"training.momentum": Range(**given)}, [])
        return
    (fault,) = faults
    assert fault.startswith("search.space.training.momentum: steps of ")
    assert fault.endswith(mend)
    with pytest.warns(UserWarning, match=f"replaced with .*, {mend.split()[-1].removesuffix('.')}"):
        FloatDistribution(given["low"], given["high"], step=given["step"])


@pytest.mark.parametrize("value", [3, 2.5, "fedhq", True, ["skip", "qat-w2a2"], [2, 3]])
def test_choices_survive_the_way_through_optuna(value) -> None:
    assert decoded(encoded(value)) == value


def test_a_space_that_enumerates_clients_is_told_from_a_policy() -> None:
    clients = distributions({"clients": Choices(("ptq-w2a2", "qat-w2a2"))}, 100)
    assert len(clients) == 100
    assert enumerated_clients(clients, 100).startswith("100 parameters such as `clients.0`")
    policy = {f"allocation.{k}": Range(0.1, 0.2) for k in "abcdefghijklmnop"}
    policy |= {"menu": Choices(("a", "b")), "bits": Choices((2, 3))}
    assert enumerated_clients(distributions(policy, 100), 100) is None


def test_a_small_fleet_is_told_by_its_number_of_clients() -> None:
    clients = distributions({"clients": Choices(("ptq-w2a2", "qat-w2a2"))}, 5)
    assert enumerated_clients(clients) is None  # five categories may be anything
    assert enumerated_clients(clients, 5) is not None


def test_a_study_of_somebody_elses_that_enumerates_clients_is_found_by_its_trials() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    assert enumerated_clients(study) is None
    trial = study.ask()
    for i in range(30):
        trial.suggest_categorical(f"strategy of client {i}", ["ptq", "qat"])
    assert "30 parameters such as `strategy of client 0`" in enumerated_clients(study)
