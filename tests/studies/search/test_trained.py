"""Policies evaluated by training: resumed, read, waited for, measured from their records."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from search_tables import PICK_LOSS, device, tiny

from fedhq.allocator import CheckpointError
from fedhq.fl_core.callbacks import Callback
from fedhq.fl_core.records.lock import FolderBusyError, RunLock
from fedhq.fl_core.records.recorder import read_clients, read_rounds
from fedhq.studies.arms import make_trainer
from fedhq.studies.results import RunResult
from fedhq.studies.search.config.settings import parse_search
from fedhq.studies.search.trials import trained as trained_module
from fedhq.studies.search.trials.modelled import InfeasiblePolicyError
from fedhq.studies.search.trials.policy import Policies
from fedhq.studies.search.trials.trained import Trained, measures_of, target_of

PARAMS = {"allocation.pick_loss": 0.05}


@pytest.fixture(scope="module")
def policies() -> Policies:
    return Policies(parse_search(tiny()))


@pytest.fixture(scope="module")
def done(policies, tmp_path_factory):
    """A policy that was evaluated, and what came of it."""
    trained = Trained(policies, tmp_path_factory.mktemp("search"))
    return trained, trained(PARAMS, 1)


def run_config(policies: Policies, seed: int):
    config = policies.config.with_values(PARAMS)
    return replace(config, federation=replace(config.federation, seed=seed))


def test_measures_are_those_of_the_records(done) -> None:
    trained, found = done
    folder = trained.run_folder(PARAMS, 1)
    assert folder.parts[-3:] == ("trials", trained.policies.digest(PARAMS), "seed-1")
    result = RunResult.read(folder, "", "", 1)
    assert found.measures["round_seconds"] == pytest.approx(result.seconds_per_round)
    assert found.measures["accuracy_loss"] == pytest.approx(1 - result.deployed_accuracy)
    assert found.measures["uplink_bytes"] * 3 == pytest.approx(result.uplink_bytes)
    assert "energy_joules" not in found.measures  # no device says what it draws


def test_the_choice_is_what_the_first_rounds_clients_did(done) -> None:
    trained, found = done
    first = {c.client: c.strategy for c in read_clients(trained.run_folder(PARAMS, 1))[:4]}
    assert [found.menu[int(d)] for d in found.choice] == [first[i] for i in range(4)]
    assert found.choice == trained.policies.plan(PARAMS, 1).choice


def test_a_finished_run_is_read_and_not_trained_again(done) -> None:
    trained, found = done
    records = trained.run_folder(PARAMS, 1) / "wall.jsonl"
    before = records.read_bytes()  # has wall times: another training would give others
    assert Trained(trained.policies, trained.folder)(PARAMS, 1) == found
    assert records.read_bytes() == before


def test_a_run_that_a_dead_worker_left_is_resumed(done, tmp_path) -> None:
    class Dies(Callback):
        def on_round(self, record, clients, wall) -> None:
            if record.round == 2:
                raise KeyboardInterrupt

    trained, found = done
    again = Trained(trained.policies, tmp_path)
    folder = again.run_folder(PARAMS, 1)
    with pytest.raises(KeyboardInterrupt):
        make_trainer(run_config(trained.policies, 1), folder, callbacks=[Dies()]).run()
    kept = (folder / "wall.jsonl").read_bytes()
    assert len(read_rounds(folder)) == 2
    assert again(PARAMS, 1) == found
    assert (folder / "wall.jsonl").read_bytes().startswith(kept)


def test_a_folder_that_another_worker_holds_is_waited_for_and_that_is_told_once(
    done, tmp_path, monkeypatch
) -> None:
    made: list[float] = []

    def make(*given, **named):
        made.append(time.monotonic())
        return make_trainer(*given, **named)

    monkeypatch.setattr(trained_module, "make_trainer", make)
    trained, found = done
    told: list[Path] = []
    waiting = Trained(trained.policies, tmp_path, told.append)
    folder = waiting.run_folder(PARAMS, 1)
    folder.mkdir(parents=True)
    held = threading.Event()
    freed: list[float] = []

    def hold() -> None:
        with RunLock(folder):
            held.set()
            time.sleep(1.0)
            freed.append(time.monotonic())

    other = threading.Thread(target=hold)
    other.start()
    held.wait()
    assert waiting(PARAMS, 1) == found
    other.join()
    assert told == [folder]
    (built,) = made  # no federation is built in vain
    assert built > freed[0]


def test_one_who_waited_and_finds_another_faster_waits_again(done, tmp_path, monkeypatch) -> None:
    def make(*given, **named):
        if not tries:
            tries.append(1)
            raise FolderBusyError("another was faster.")
        return make_trainer(*given, **named)

    tries: list[int] = []
    monkeypatch.setattr(trained_module, "make_trainer", make)
    trained, found = done
    assert Trained(trained.policies, tmp_path)(PARAMS, 1) == found
    assert tries == [1]


def test_each_seed_is_a_federation_of_its_own(done) -> None:
    trained, found = done
    assert trained(PARAMS, 2).measures != found.measures


def test_a_policy_without_an_allocation_trains_nothing(tmp_path) -> None:
    table = tiny(space={"allocation.deadline_seconds": {"low": 1e-6, "high": 1.0}})
    trained = Trained(Policies(parse_search(table)), tmp_path)
    with pytest.raises(InfeasiblePolicyError, match="no allocation keeps deadline_seconds") as told:
        trained({"allocation.deadline_seconds": 1e-5}, 0)
    assert told.value.excess > 1
    assert not any(tmp_path.iterdir())


def test_a_later_cohort_without_an_allocation_makes_the_policy_infeasible(tmp_path) -> None:
    table = tiny(space={"allocation.deadline_seconds": {"low": 1e-3, "high": 1.0}})
    table |= {"participation": {"cohort": 1}, "menu": ["ptq-w2a2", "qat-w2a2"]}
    table["training"] = {"rounds": 9}
    trained = Trained(Policies(parse_search(table)), tmp_path)
    first = trained.policies.plan({}).measures["round_seconds"]
    tried = {"allocation.deadline_seconds": 1.001 * first}
    assert trained.policies.plan(tried).solution.status.has_allocation
    with pytest.raises(InfeasiblePolicyError):  # of four unlike clients one at a time is asked
        trained(tried, 0)


def test_energy_is_measured_where_every_device_says_what_it_draws(tmp_path) -> None:
    table = tiny()
    watts = [device(n, s, 1e6) | {"active_watts": 5.0} for n, s in (("a", 1), ("b", 3))]
    table["fleet"] = {"classes": watts}
    trained = Trained(Policies(parse_search(table)), tmp_path)
    joules = trained({}, 0).measures["energy_joules"]
    assert joules == pytest.approx(trained.policies.plan({}).measures["energy_joules"], rel=0.5)
    assert joules > 0


def test_categories_of_clients_are_trained_as_told(tmp_path) -> None:
    table = tiny(space={"clients": {"choices": ["skip", "ptq-w2a2", "qat-w2a2"]}})
    trained = Trained(Policies(parse_search(table)), tmp_path)
    told = ["qat-w2a2", "skip", "ptq-w2a2", "qat-w2a2"]
    found = trained({f"clients.{i}": s for i, s in enumerate(told)}, 0)
    assert [found.menu[int(d)] for d in found.choice] == told


def rounds(*accuracies: float | None):
    """Rounds of two seconds with these accuracies."""
    from fedhq.fl_core.records.records import RoundRecord

    return [
        RoundRecord(
            round=k, simulated_seconds=2.0 * k, round_seconds=2.0, waiting_seconds=0.0,
            deployed_accuracy=a, float_accuracy=a, client_accuracy=None, worst_accuracy=None,
            uplink_bytes=10 * k, downlink_bytes=0, energy_joules=1.0, planned_loss=0.0,
            bottleneck=0, learning_rate=0.1, selected=1, used=1,
        )
        for k, a in enumerate(accuracies, start=1)
    ]  # fmt: skip


def test_the_time_to_a_target_is_that_of_the_first_round_that_reaches_it() -> None:
    found = measures_of(rounds(0.5, None, 0.8, 0.7, 0.9), 0.8)
    assert found["seconds_to_target"] == 6.0
    assert found["target_shortfall"] == pytest.approx(-0.1)
    assert found["accuracy_loss"] == pytest.approx(0.1)
    assert found["uplink_bytes"] == 30.0


def test_a_target_that_was_not_reached_takes_the_whole_run_and_is_marked() -> None:
    found = measures_of(rounds(0.5, 0.75, None, 0.7), 0.8)
    assert found["seconds_to_target"] == 8.0
    assert found["target_shortfall"] == pytest.approx(0.05)


def test_a_run_whose_server_diverges_in_the_first_round_is_measured_by_its_plan(tmp_path) -> None:
    table = tiny() | {"server": {"learning_rate": 1e45}}
    trained = Trained(Policies(parse_search(table)), tmp_path)
    found = trained(PARAMS, 1)
    plan = trained.policies.plan(PARAMS, 1)
    assert found.diverged.startswith("diverged: `all of weights/")
    assert found.measures["accuracy_loss"] == 1.0
    assert found.measures["round_seconds"] == plan.measures["round_seconds"]
    assert found.measures["uplink_bytes"] == plan.measures["uplink_bytes"]
    assert found.choice == plan.choice
    assert trained(PARAMS, 1) == found


def test_a_model_that_overflows_so_that_nothing_can_be_deployed_has_diverged_too(tmp_path) -> None:
    table = tiny() | {"server": {"learning_rate": 3e38}}
    trained = Trained(Policies(parse_search(table)), tmp_path)
    found = trained(PARAMS, 1)
    assert [r.deployed_accuracy for r in read_rounds(trained.run_folder(PARAMS, 1))] == [0.0] * 3
    assert found.measures["accuracy_loss"] == 1.0
    assert found.diverged == "diverged: the model of the last round gets nothing right."


def test_a_run_that_cannot_be_read_is_an_error_and_no_wait(done, tmp_path) -> None:
    trained, _ = done
    other = Trained(trained.policies, tmp_path)
    folder = other.run_folder(PARAMS, 1)
    folder.mkdir(parents=True)
    Path(folder, "checkpoint.safetensors").write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors"):
        other(PARAMS, 1)


def test_two_spaces_of_one_configuration_share_their_runs(done) -> None:
    trained, _ = done
    wider = tiny(space={"allocation.pick_loss": PICK_LOSS, "wire_bits": {"choices": [4, 8]}})
    policies = Policies(parse_search(wider))
    assert policies.digest(PARAMS | {"wire_bits": 4}) == trained.policies.digest(PARAMS)


def test_a_time_that_nobody_asks_for_is_not_measured(done) -> None:
    _, found = done
    assert not {"seconds_to_target", "target_shortfall"} & found.measures.keys()
    asked = parse_search(tiny(limits={"seconds_to_target": 9.0}, target_accuracy=0.5)).search
    assert (target_of(asked), target_of(parse_search(tiny()).search)) == (0.5, None)


def test_a_cohort_is_recorded_by_the_ids_of_its_clients(tmp_path) -> None:
    table = tiny() | {"participation": {"cohort": 2}, "partition": {"num_clients": 8}}
    trained = Trained(Policies(parse_search(table)), tmp_path)
    for seed in range(3):
        found = trained(PARAMS, seed)
        first = [c for c in read_clients(trained.run_folder(PARAMS, seed)) if c.round == 1]
        did = dict(zip(found.clients, found.choice, strict=True))
        assert {c.client: c.strategy for c in first} == {
            client: found.menu[int(digit)] for client, digit in did.items()
        }
        assert found.bottleneck == max(first, key=lambda c: c.seconds).client
        plan = trained.policies.plan(PARAMS, seed)
        assert (plan.clients, plan.bottleneck) == (found.clients, found.bottleneck)
