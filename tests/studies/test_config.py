"""Configurations: defaults, overrides, merging, and errors that name key, value and rule."""

import json
from pathlib import Path

import pytest

from fedhq.studies.config import parse_compare, parse_run, read_table, resolved

DEMO = Path(__file__).parents[2] / "studies" / "demo.toml"
FLEET = {
    "classes": [
        {
            "name": "phone",
            "share": 1,
            "slowdown": 2,
            "uplink_bytes_per_second": 1e6,
            "downlink_bytes_per_second": 1e6,
        }
    ]
}


def test_the_demo_lays_out_every_arm_in_every_scenario_paired_by_seed() -> None:
    config = parse_compare(read_table(DEMO, ["compare.seeds=[3, 4]"]))
    assert config.scenarios == ("independent", "correlated")
    assert config.arms == ("fp32", "all-PTQ", "all-QAT", "random hybrid", "hardware-only", "fedhq")
    assert len(config.jobs) == 2 * 2 * 6
    first = config.jobs[0]
    assert (first.scenario, first.arm, first.seed) == ("independent", "fp32", 3)
    assert first.config.federation.seed == 3
    ties = {job.scenario: job.config.federation.fleet.skew_correlation for job in config.jobs}
    assert ties == {"independent": 0.0, "correlated": 1.0}


def test_overrides_reach_nested_keys_and_keep_their_types() -> None:
    table = read_table(DEMO, ["training.rounds=3", "data.name=digits", "fleet.spread = 0.5"])
    assert table["training"]["rounds"] == 3
    assert table["data"]["name"] == "digits"
    assert table["fleet"]["spread"] == 0.5


def test_a_resolved_configuration_holds_all_defaults_and_survives_json() -> None:
    config = parse_run({"fleet": FLEET})
    table = resolved(config)
    assert table["training"]["rounds"] == 30
    assert table["allocation"]["solver"] == "fedhq"
    again = json.loads(json.dumps(table))
    assert parse_run(again) == config


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"training": {"rounds": -3}}, ["training.rounds = -3", "greater than or equal to 1"]),
        ({"training": {"round": 3}}, ["training.round = 3", "unknown key", "`rounds`"]),
        ({"trainig": {}}, ["trainig", "unknown key", "`training`"]),
        ({"data": {"name": "cifar"}}, ["data.name = 'cifar'", "'mnist5k'"]),
        ({"allocation": {"solver": "magic"}}, ["allocation.solver = 'magic'", "'fedhq'"]),
        ({"allocation": {"tradeof": 3}}, ["allocation.tradeof = 3", "`tradeoff`"]),
        ({"weight_bits": 1}, ["weight_bits = 1", "greater than or equal to 2"]),
        ({"fleet": {"classes": []}}, ["fleet.classes", "at least 1"]),
        ({"fleet": {"classes": [{"name": "x"}]}}, ["fleet.classes.0.share", "required"]),
        ({"compare": {}}, ["`compare`", "fedhq compare"]),
    ],
)
def test_faults_name_the_key_the_value_and_the_rule(changes, parts) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011  the parts below are the match
        parse_run({"fleet": FLEET, **changes})
    for part in parts:
        assert part in str(error.value)


def test_all_faults_are_listed_at_once() -> None:
    with pytest.raises(ValueError, match=r"(?s)training.rounds.*training.batch_size"):
        parse_run({"fleet": FLEET, "training": {"rounds": 0, "batch_size": "many"}})


def test_a_missing_fleet_is_named() -> None:
    with pytest.raises(ValueError, match=r"fleet: is required"):
        parse_run({})


@pytest.mark.parametrize(
    "arms", [None, [], [{"solver": "sweep"}], [{"name": "a"}, {"name": "a"}], [{"name": "a/b"}]]
)
def test_arms_need_names_of_their_own(arms) -> None:
    with pytest.raises(ValueError, match="arms"):
        parse_compare({"fleet": FLEET} | ({} if arms is None else {"arms": arms}))


def test_unreadable_files_and_overrides_are_named(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*nowhere.toml"):
        read_table(tmp_path / "nowhere.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("rounds = = 3", encoding="utf-8")
    with pytest.raises(ValueError, match=r"broken.toml is no valid TOML"):
        read_table(broken)
    with pytest.raises(ValueError, match="key=value"):
        read_table(DEMO, ["training.rounds"])
