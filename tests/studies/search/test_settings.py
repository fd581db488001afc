"""Searches as tables: validated as a whole, resolved, digested."""

import re

import pytest
from search_tables import PICK_LOSS, modelled, of_table, tiny, write_table

from fedhq.allocator.instances.families import FAMILIES
from fedhq.studies.search.config.settings import (
    config_digest,
    parse_search,
    read_search_config,
    resolved_search,
)
from fedhq.studies.search.config.space import Choices, Range


def in_space(**space):
    return tiny(space=space)


def faults(table) -> str:
    with pytest.raises(ValueError, match="the configuration has faults") as caught:
        parse_search(table)
    return str(caught.value)


@pytest.mark.parametrize("evaluate", ["training", "model"])
def test_the_demo_is_read_back_from_what_it_resolves_to(evaluate) -> None:
    config = read_search_config("demo", [f"search.evaluate={evaluate}"])
    resolved = resolved_search(config)
    again = parse_search(resolved)
    assert resolved_search(again) == resolved
    assert config_digest(again) == config_digest(config)
    assert again.run == config.run
    assert resolved["training"]["batch_size"] == 32  # defaults are told


def test_a_table_of_clients_is_read_back_too_and_known_by_what_it_holds(tmp_path) -> None:
    path = write_table(tmp_path / "fleet.json", FAMILIES["federated"](0, 5))
    config = parse_search(of_table(path, {"pick_loss": PICK_LOSS}))
    resolved = resolved_search(config)
    assert config_digest(parse_search(resolved)) == config_digest(config)
    moved = path.rename(tmp_path / "moved.json")
    assert config_digest(parse_search(of_table(moved, {"pick_loss": PICK_LOSS}))) == config_digest(
        config
    )
    write_table(path, FAMILIES["federated"](1, 5))
    assert "the file has changed" in faults(resolved)
    other = parse_search(of_table(path, {"pick_loss": PICK_LOSS}))
    assert config_digest(other) != config_digest(config)


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ({"workers": 7, "trials": 3, "sampler": "random", "seed": 5, "screen_trials": 9}, True),
        ({"limits": {"round_seconds": 5.0}}, False),
        ({"seeds": [0, 1]}, False),
        ({"target_accuracy": 0.7}, False),
        ({"objectives": ["seconds_to_target", "accuracy_loss"]}, False),
        ({"tradeoff": 30.0}, False),
        ({"evaluate": "model"}, False),
        ({"space": {"allocation.pick_loss": PICK_LOSS | {"high": 0.2}}}, False),
    ],
)
def test_the_digest_changes_with_what_a_trials_values_mean(change, is_same) -> None:
    same = config_digest(parse_search(tiny(**change))) == config_digest(parse_search(tiny()))
    assert same == is_same


def test_the_digest_changes_with_any_key_of_the_run() -> None:
    other = tiny() | {"training": {"rounds": 4}}
    assert config_digest(parse_search(other)) != config_digest(parse_search(tiny()))


def test_all_faults_stand_in_one_message_each_with_its_key() -> None:
    table = tiny(
        objectives=["speed"],
        seeds=[1, 1],
        worker=3,
        limits={"money": 1.0},
        space={
            "training.learning_rat": {"low": 0.1, "high": 0.2},
            "training.momentum": {"low": 0.5, "high": 1.5},
            "training.local_epochs": {"low": 3, "high": 1},
            "menu": {"choices": [["skip", "qat-w2a2"], ["qat-w9a9"]]},
        },
    )
    told = faults(table)
    for part in (
        "search.objectives.0 = 'speed'",
        "search.seeds = [1, 1]: must name each once, but has 1 twice",
        "search.worker = 3: unknown key. Did you mean `workers`?",
        "search.limits = 'money': input should be 'round_seconds'",
        "training.learning_rat = 0.1: unknown key. Did you mean `learning_rate`?",
        "search.space.training.momentum: high = 1.5 breaks a rule: training.momentum = 1.5: input "
        "should be less than 1",
        "search.space.training.local_epochs: `low <= high` must hold, but got 3 and 1",
        "search.space.menu: choice ['qat-w9a9'] breaks a rule: menu.0 = 'qat-w9a9'",
    ):
        assert part in told, told
    assert len(told.splitlines()) == 1 + 9  # learning_rat breaks with both of its ends


def test_faults_of_the_run_stand_beside_those_of_the_search() -> None:
    table = tiny(trials=0) | {"training": {"rounds": -1}}
    told = faults(table)
    assert "training.rounds = -1" in told
    assert "search.trials = 0" in told


def test_an_end_of_a_whole_range_that_takes_fractions_is_none() -> None:
    space = parse_search(
        in_space(**{
            "training.local_epochs": {"low": 1, "high": 3},
            "training.learning_rate": {"low": 1, "high": 3},
            "bits": {"low": 2, "high": 4},
        })
    ).space  # fmt: skip
    assert space["training.local_epochs"] == Range(1, 3)
    assert isinstance(space["training.local_epochs"].low, int)
    assert space["bits"].is_whole
    assert isinstance(space["training.learning_rate"].low, float)


@pytest.mark.parametrize("key", ["training.learning_rate", "bits", "quantization.weight_fit"])
def test_the_model_refuses_keys_that_it_knows_nothing_of_and_says_why(key) -> None:
    values = {"choices": ["mse"]} if "fit" in key else {"low": 2, "high": 3}
    told = faults(modelled(space={key: values}))
    assert f"search.space.{key}: the model predicts one round from devices and labels" in told


def test_keys_may_be_nested_and_an_override_changes_one_end(tmp_path) -> None:
    nested = parse_search(in_space(allocation={"pick_loss": PICK_LOSS}))
    assert nested.space == {"allocation.pick_loss": Range(0.001, 0.3, log=True)}
    config = read_search_config("demo", ["search.space.allocation.pick_loss.high=0.1"])
    assert config.space["allocation.pick_loss"] == Range(0.001, 0.1, log=True)
    assert config.space["wire_bits"] == Choices((3, 4, 8))


@pytest.mark.parametrize(
    ("table", "part"),
    [
        (tiny(space={}), "search.space: must name at least one key"),
        (tiny() | {"seed": 3}, "Write seeds = [3] under [search] instead"),
        (in_space(seed={"low": 0, "high": 9}), "the seeds of a search are search.seeds"),
        (
            in_space(**{"allocation.tradeoff": PICK_LOSS}),
            "search.space.allocation.tradeoff: is read by exact and dual",
        ),
        (
            in_space(**{"allocation.solver": {"choices": ["fedhq", "exact"]}}),
            "allocation.solver = 'exact': must be told what to minimise",
        ),
        (tiny() | {"allocation": {"share": "fedhq"}}, "needs another arm"),
        (
            in_space(**{"allocation.share": {"choices": [0.5, "fedhq"]}}),
            "choice 'fedhq' breaks a rule",
        ),
        (modelled(objectives=["seconds_to_target"]), "only training tells"),
        (tiny(tradeoff=3.0, objectives=["accuracy_loss"]), "search.tradeoff makes one objective"),
        (tiny(objectives=["round_seconds"] * 2), "search.objectives must differ"),
        (in_space(clients={"choices": ["fp32"]}), "must have choices of the menu"),
        (
            in_space(clients={"choices": ["skip"]}, wire_bits={"choices": [3]}),
            "nothing else decides then: leave out wire_bits",
        ),
        (
            tiny(screen_trials=9, space={"bits": {"choices": [2, 3]}}),
            "search.screen_trials = 9: the model knows none",
        ),
        (in_space(**{"training.rounds": 3}), "must be a table"),
        (
            in_space(**{"training.local_epochs": {"low": 1, "high": 3, "step": 0.5}}),
            "search.space.training.local_epochs: low + step = 1.5 breaks a rule",
        ),
        (in_space(arm={"choices": ["fp32"]}), "search.space.arm: is a name of fedhq's own"),
        (in_space(**{"clients.0": {"choices": ["skip"]}}), "search.space.clients.0: is a name of"),
        (in_space(**{"training.rounds": {"low": 0, "high": 3, "log": True}}), "`low > 0`"),
    ],
)
def test_each_fault_says_what_to_do(table, part) -> None:
    assert part in faults(table)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"search": {"space": {"wire_bits": {"choices": [3]}}}}, "only allocation keys"),
        (
            {"search": {"space": {"allocation.pick_loss": PICK_LOSS}, "seeds": [0, 1]}},
            "the same for every seed",
        ),
        (
            {"search": {"space": {"allocation.pick_loss": PICK_LOSS}, "evaluate": "training"}},
            "holds no data to train on",
        ),
        ({"training": {"rounds": 3}}, "training: [problem] stands in place of a federation"),
        ({"problem": {"path": "nowhere.json"}}, "cannot read nowhere.json"),
        ({"problem": {"pth": "nowhere.json"}}, "problem.pth = 'nowhere.json': unknown key"),
    ],
)
def test_a_table_of_clients_takes_what_it_can(tmp_path, change, part) -> None:
    path = write_table(tmp_path / "fleet.json", FAMILIES["federated"](0, 5))
    assert part in faults(of_table(path, {"pick_loss": PICK_LOSS}) | change)


def test_a_faulty_search_makes_no_other_fault_of_what_it_should_have_said(tmp_path) -> None:
    path = write_table(tmp_path / "fleet.json", FAMILIES["federated"](0, 5))
    table = of_table(path, {"pick_loss": PICK_LOSS}, trials=0)
    assert len(faults(table).splitlines()) == 1 + 1
    assert "search.trials = 0" in faults(table)


def test_limits_and_a_csv_are_those_of_fedhq_plan(tmp_path) -> None:
    path = write_table(tmp_path / "fleet.json", FAMILIES["federated"](0, 5))
    table = of_table(path, {"pick_loss": PICK_LOSS})
    config = parse_search(table | {"problem": {"path": str(path), "limits": {"uplink_bytes": 7.0}}})
    assert config.problem.problem.budgets[0].limit == 7.0
    wrong = table | {"problem": {"path": str(path), "limits": {"money": 7.0}}}
    assert "problem.limits.money: must be a budget of the JSON" in faults(wrong)
    rows = ["client,strategy,seconds,loss,uplink_bytes", "a,ptq-w2a2,1,.1,5", "a,qat-w2a2,2,0,5"]
    csv = tmp_path / "fleet.csv"
    csv.write_text("\n".join(rows), "utf-8")
    read = parse_search(table | {"problem": {"path": str(csv), "limits": {"uplink_bytes": 7.0}}})
    assert read.problem.problem.seconds.tolist() == [[1, 2]]
    assert read.problem.problem.budgets[0].limit == 7.0


def test_a_space_of_clients_is_warned_of_when_it_is_read(tmp_path) -> None:
    text = """
    [data]
    name = "digits"
    [partition]
    num_clients = 8
    [search.space]
    clients = { choices = ["ptq-w2a2", "qat-w2a2"] }
    """
    path = tmp_path / "clients.toml"
    path.write_text(text, "utf-8")
    told = "search.space.clients: 8 parameters such as `clients.0` look like one for each client."
    with pytest.warns(UserWarning, match=re.escape(f"{told} Samplers do not find good ones")):
        read_search_config(str(path))
    everybody = ["data.name=smartwatch", "partition.kind=natural", "partition.num_clients=all"]
    with pytest.warns(UserWarning, match="is one parameter for each client. Samplers do not"):
        read_search_config(str(path), everybody)
