"""Configurations: defaults, overrides, merging, and errors that name key, value and rule."""

import json
import re
from pathlib import Path

import pytest

import fedhq.studies
from fedhq.studies.config import comparison_text, parse_compare, parse_run, resolved, run_text
from fedhq.studies.tables import read_table

DEMO = Path(fedhq.studies.__file__).with_name("demo.toml")
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
INF, NAN = float("inf"), float("nan")


def phone(**changes):
    return {"classes": [FLEET["classes"][0] | changes]}


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


def test_overrides_step_into_lists_by_index() -> None:
    table = read_table(DEMO, ["fleet.classes.0.slowdown=7", "arms.5.allocation.solver=milp"])
    assert [c["slowdown"] for c in table["fleet"]["classes"]] == [7, 10.0, 20.0]
    assert table["arms"][5]["allocation"] == {"solver": "milp", "finish": 0.25}


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("training..rounds=7", "training..rounds"),
        (".rounds=7", "between its dots"),
        ("fleet.classes.3.slowdown=7", "'3' must be an index into a list of 3"),
        ("fleet.classes.first.slowdown=7", "'first' must be an index"),
        ("fleet.classes.-1=7", "'-1' must be an index"),
        ("model.name=cnn", "what stands before 'name' is no table"),
    ],
)
def test_overrides_that_fit_no_place_are_refused(override, part) -> None:
    with pytest.raises(ValueError, match=re.escape(part)):
        read_table(DEMO, [override])


def test_a_resolved_configuration_holds_all_defaults_and_survives_json() -> None:
    config = parse_run({"fleet": FLEET})
    table = resolved(config)
    assert table["training"]["rounds"] == 30
    assert table["allocation"]["solver"] == "fedhq"
    assert parse_run(json.loads(json.dumps(table))) == config


def test_a_written_configuration_is_json_without_infinities_and_reads_back() -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    config = parse_run({"fleet": FLEET})
    written = json.loads(run_text(config), parse_constant=refuse)
    assert written["fleet"]["classes"][0]["memory_bytes"] is None
    assert parse_run(written) == config
    comparison = parse_compare(read_table(DEMO))
    written = json.loads(comparison_text(comparison), parse_constant=refuse)
    assert written["compare"]["seeds"] == [0]
    jobs = zip(written["runs"], comparison.jobs, strict=True)
    assert all(parse_run(run["configuration"]) == job.config for run, job in jobs)


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
        ({"training": {"rounds": True}}, ["training.rounds = True", "valid integer"]),
        ({"training": {"rounds": "5"}}, ["training.rounds = '5'", "valid integer"]),
        ({"training": {"rounds": 5.0}}, ["training.rounds = 5.0", "valid integer"]),
        ({"training": {"learning_rate": True}}, ["training.learning_rate = True", "number"]),
        ({"training": {"learning_rate": INF}}, ["training.learning_rate = inf", "finite"]),
        ({"partition": {"alpha": NAN}}, ["partition.alpha = nan", "finite"]),
        ({"fleet": FLEET | {"spread": INF}}, ["fleet.spread = inf", "finite"]),
        ({"fleet": phone(slowdown=INF)}, ["fleet.classes.0.slowdown = inf", "finite"]),
        ({"fleet": phone(memory_bytes=NAN)}, ["fleet.classes.0.memory_bytes = nan"]),
        ({"fleet": FLEET | {"kind": "magic"}}, ["fleet.kind = 'magic'", "'lognormal'"]),
        ({"fleet": {"kind": "trace"}}, ["fleet", "`fleet.path` must name a trace"]),
        (
            {"fleet": {"kind": "lognormal", "lognormal": {"network_correlation": 2}}},
            ["fleet.lognormal.network_correlation = 2", "less than or equal to 1"],
        ),
        (
            {"fleet": {"kind": "lognormal", "lognormal": {"memory": [{"share": 1}]}}},
            ["fleet.lognormal.memory.0.memory_bytes", "required"],
        ),
        (
            {"fleet": FLEET | {"availability": {"online_share": 0}}},
            ["fleet.availability.online_share = 0", "greater than 0"],
        ),
        (
            {"fleet": FLEET | {"availability": {"online_share": 0.5, "session_seconds": 1}}},
            ["fleet.availability", "sessions of a period", "43200"],
        ),
        ({"allocation": {"energy_joules": 0}}, ["allocation.energy_joules = 0", "greater than 0"]),
        (
            {"allocation": {"solver": "uniform", "finish": 0.25}},
            ["allocation.finish = 0.25", "'uniform' is a fixed rule"],
        ),
        ({"allocation": {"tradeoff": INF}}, ["allocation.tradeoff = inf", "finite"]),
        ({"participation": {"cohort": 0}}, ["participation.cohort", "greater than or equal to 1"]),
        ({"menu": ["skip", "magic"]}, ["menu.1 = 'magic'", "qat-w2a2"]),
        ({"menu": ["qat-w2a2", "qat-w2a2-u4"]}, ["menu = ", "more than once"]),
        ({"allocation": {"strategy": "best"}}, ["allocation.strategy = 'best'", "qat-w2a2"]),
        ({"allocation": {"otherwise": "best"}}, ["allocation.otherwise = 'best'"]),
        ({"weight_bits": 3}, ["menu = ", "weight_bits = 3", "activation_bits = 2", "qat-w3a2"]),
    ],
)
def test_faults_name_the_key_the_value_and_the_rule(changes, parts) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011  the parts below are the match
        parse_run({"fleet": FLEET, **changes})
    for part in parts:
        assert part in str(error.value)


def test_whole_numbers_may_stand_for_floats_and_float_menus_need_no_bits() -> None:
    config = parse_run({"fleet": phone(slowdown=7), "menu": ["fp32"], "weight_bits": 5})
    assert config.federation.fleet.classes[0].slowdown == 7.0


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"allocation": 3}, "allocation = 3: must be a table."),
        (
            {"allocation": {"share": 2}},
            "allocation.share = 2: input should be less than or equal to 1 "
            "or input should be 'fedhq'.",
        ),
        ({"fleet": phone(share=0)}, "fleet.classes.0.share = 0: input should be greater than 0."),
        ({"fleet": phone(color=1)}, "fleet.classes.0.color = 1: unknown key. Known here: "),
    ],
)
def test_a_fault_is_one_line_without_words_of_the_validator(changes, line) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011  the line below is the match
        parse_run({"fleet": FLEET, **changes})
    told = str(error.value).splitlines()
    assert len(told) == 2
    assert told[1].strip().startswith(line)


def test_all_faults_are_listed_at_once() -> None:
    with pytest.raises(ValueError, match=r"(?s)training.rounds.*training.batch_size"):
        parse_run({"fleet": FLEET, "training": {"rounds": 0, "batch_size": "many"}})


def test_without_a_word_of_it_the_fleet_is_a_population() -> None:
    assert parse_run({}).federation.fleet.kind == "lognormal"


@pytest.mark.parametrize(
    "arms",
    [
        None,
        [],
        [{"solver": "sweep"}],
        [{"name": "a"}, {"name": "a"}],
        *([{"name": name}] for name in ("a/b", "..", ".a", "a\0", "a\\b", "", " a", "a\n", 3)),
    ],
)
def test_arms_need_names_of_their_own(arms) -> None:
    with pytest.raises(ValueError, match="arms"):
        parse_compare({"fleet": FLEET} | ({} if arms is None else {"arms": arms}))


def test_names_may_have_letters_digits_blanks_and_some_signs() -> None:
    names = ("random hybrid", "w2.5_a-1", "größer")
    config = parse_compare({"fleet": FLEET, "arms": [{"name": name} for name in names]})
    assert config.arms == names


def test_the_seeds_of_a_comparison_differ_and_stand_in_one_place() -> None:
    arm = {"name": "a"}
    with pytest.raises(
        ValueError, match=r"compare.seeds = \[0, 0\]: must name each once, but has 0 twice"
    ):
        parse_compare({"fleet": FLEET, "compare": {"seeds": [0, 0]}, "arms": [arm]})
    for table in ({"seed": 7, "arms": [arm]}, {"arms": [arm | {"seed": 7}]}):
        with pytest.raises(ValueError, match=r"seed = 7 .*`compare.seeds`"):
            parse_compare({"fleet": FLEET, **table})


def test_a_fault_names_its_arm_and_scenario() -> None:
    arms = [{"name": "good"}, {"name": "bad", "training": {"rounds": 0}}]
    table = {"fleet": FLEET, "scenarios": [{"name": "calm"}], "arms": arms}
    with pytest.raises(ValueError, match=r"(?s)arm 'bad' in scenario 'calm'.*training.rounds = 0"):
        parse_compare(table)


def test_unreadable_files_and_overrides_are_named(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*nowhere.toml"):
        read_table(tmp_path / "nowhere.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("rounds = = 3", encoding="utf-8")
    with pytest.raises(ValueError, match=r"broken.toml is no valid TOML"):
        read_table(broken)
    with pytest.raises(ValueError, match="key=value"):
        read_table(DEMO, ["training.rounds"])
