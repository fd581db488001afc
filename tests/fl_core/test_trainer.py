"""The loop: what it trains, what it records, and that nothing of it is lost or left to chance."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fedhq.allocator import (
    Allocation,
    CheckpointError,
    FastestWithin,
    FedHQError,
    FrontierPick,
    HybridAllocator,
    Random,
    StepProfile,
    parse_menu,
)
from fedhq.allocator.strategy import Strategy
from fedhq.fl_core.callbacks import Callback
from fedhq.fl_core.engine.local import LocalTrainer
from fedhq.fl_core.federation import Federation
from fedhq.fl_core.records.checkpoint import load_checkpoint
from fedhq.fl_core.records.recorder import read_clients, read_rounds
from fedhq.fl_core.settings import (
    DataSettings,
    DeviceClass,
    FederationSettings,
    FleetSettings,
    ParticipationSettings,
    PartitionSettings,
    TrainingSettings,
)
from fedhq.fl_core.trainer import Trainer
from fedhq.fl_core.weights import load_weights_, read_weights
from fedhq.fl_core.wire.codec import encoded_bytes
from fedhq.fl_core.wire.downlink import broadcast

FLEET = FleetSettings(
    (DeviceClass("fast", 1, 1.0, 1e6, 1e6), DeviceClass("slow", 1, 4.0, 1e5, 1e5)), spread=0.2
)
SETTINGS = FederationSettings(
    fleet=FLEET,
    menu=("skip", "fp32", "ptq-w2a2", "qat-w2a2"),
    data=DataSettings("digits", num_test=300, num_calibration=60),
    partition=PartitionSettings("dirichlet", num_clients=5, alpha=0.5),
    training=TrainingSettings(rounds=4, learning_rate=0.1),
)
MIXED = Random(Strategy.parse("qat-w2a2"), Strategy.parse("ptq-w2a2"), share=0.5, seed=1)


class Stop(Callback):
    """Stops a run after a round, as Ctrl-C does."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_round(self, record, clients, wall) -> None:
        if record.round == self.after:
            raise KeyboardInterrupt


def with_participation(**changes) -> FederationSettings:
    return replace(SETTINGS, participation=ParticipationSettings(**changes))


def with_training(**changes) -> FederationSettings:
    return replace(SETTINGS, training=replace(SETTINGS.training, **changes))


def make_trainer(
    folder: Path, settings=SETTINGS, solver=MIXED, config=None, carry=0.0, **keywords
) -> Trainer:
    federation = Federation.build(settings)
    planner = federation.allocator(solver, carry=carry)
    return Trainer(federation, planner, folder, config or {"name": "test"}, **keywords)


def spoil(federation: Federation, client: int) -> None:
    """Makes a client's data NaN."""
    federation.clients.dataset.inputs[federation.clients.parts[client]] = float("nan")


class Fixed:
    """A planner that gives each client the strategy it is told, whatever the round."""

    def __init__(self, federation: Federation, texts: list[str]) -> None:
        menu = [str(s) for s in federation.menu]
        self.choice = np.array([menu.index(t) for t in texts])
        self.federation = federation
        self.outcomes: list = []

    def plan(self, round_number, cohort=None) -> Allocation:
        planner = HybridAllocator(
            self.federation.menu,
            self.federation.hardware,
            "qat-w2a2",
            MIXED,
            num_examples=self.federation.num_examples,
        )
        cohort = list(range(len(self.choice))) if cohort is None else cohort
        return Allocation.of(planner.problem(cohort), self.choice[cohort])

    def observe(self, outcomes, accuracy=None) -> None:
        self.outcomes.append(outcomes)

    def state_dict(self):
        return {}

    def load_state_dict(self, state) -> None:
        pass


def fingerprint(folder: Path) -> str:
    """Of all that a run leaves but the times of the machine."""
    digest = hashlib.sha256()
    for name in ("rounds.jsonl", "clients.jsonl", "checkpoint.safetensors"):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def test_one_full_batch_step_of_all_clients_is_a_step_of_central_gradient_descent(tmp_path) -> None:
    settings = with_training(rounds=1, batch_size=5000, learning_rate=0.3)
    menu = parse_menu(SETTINGS.menu)
    path = tmp_path / "profile.json"
    StepProfile("cnn 1x8x8", 5000, menu, np.ones(4), np.zeros(4), "by hand").save(path)
    federation = Federation.build(replace(settings, profile=str(path)))
    start = read_weights(federation.model)
    trained = Trainer(federation, Fixed(federation, ["fp32"] * 5), tmp_path).run()

    load_weights_(federation.model, start)
    inputs = torch.cat([c.inputs for c in federation.clients])
    labels = torch.cat([c.labels for c in federation.clients])
    federation.model.train()
    federation.model.zero_grad()
    nn.functional.cross_entropy(federation.model(inputs), labels).backward()
    for name, parameter in federation.model.named_parameters():
        central = start[name] - 0.3 * parameter.grad.numpy()
        np.testing.assert_allclose(trained[name], central, atol=2e-6, err_msg=name)


def test_training_learns(tmp_path) -> None:
    trainer = make_trainer(tmp_path, with_training(rounds=8))
    trainer.run()
    rounds = read_rounds(tmp_path)
    assert len(rounds) == 8
    assert rounds[-1].float_accuracy > 0.8
    assert rounds[-1].deployed_accuracy > 0.4


def test_the_round_waits_for_the_slowest_and_bytes_are_those_of_the_payloads(tmp_path) -> None:
    federation = Federation.build(SETTINGS)
    texts = ["skip", "fp32", "ptq-w2a2", "qat-w2a2", "qat-w2a2"]
    planner = Fixed(federation, texts)
    Trainer(federation, planner, tmp_path).run()
    clients = [c for c in read_clients(tmp_path) if c.round == 2]
    first, second, *_ = read_rounds(tmp_path)
    assert [c.strategy for c in clients] == texts
    assert [c.status for c in clients] == ["skipped", "ok", "ok", "ok", "ok"]
    menu = [str(s) for s in federation.menu]
    for c in clients:
        column = menu.index(c.strategy)
        assert c.seconds == federation.hardware.seconds[c.client, column]
        assert c.uplink_bytes == federation.hardware.uplink_bytes[c.client, column]
    assert (clients[0].seconds, clients[0].uplink_bytes, clients[0].downlink_bytes) == (0, 0, 0)
    assert second.round_seconds == max(c.seconds for c in clients)
    assert clients[second.bottleneck].seconds == second.round_seconds
    assert second.simulated_seconds == first.round_seconds + second.round_seconds
    assert second.uplink_bytes == sum(c.uplink_bytes for c in clients)
    assert clients[1].uplink_bytes > 6 * clients[2].uplink_bytes
    assert [o.client for o in planner.outcomes[0]] == [0, 1, 2, 3, 4]


def test_every_width_of_the_wire_trains_and_is_counted(tmp_path) -> None:
    texts = ["qat-w2a2-u3", "ptq-w2a2-u5", "fp32-u6", "fp32-u7", "fp32-u2"]
    federation = Federation.build(replace(with_training(rounds=2), menu=tuple(texts)))
    state = Trainer(federation, Fixed(federation, texts), tmp_path).run()
    shapes = [values.shape for values in state.values()]
    clients = [c for c in read_clients(tmp_path) if c.round == 2]
    assert [c.status for c in clients] == ["ok"] * 5
    assert [c.uplink_bytes for c in clients] == [encoded_bytes(shapes, b) for b in (3, 5, 6, 7, 2)]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path) -> None:
    prints = []
    for name, settings in (("a", SETTINGS), ("b", SETTINGS), ("c", replace(SETTINGS, seed=1))):
        make_trainer(tmp_path / name, settings).run()
        prints.append(fingerprint(tmp_path / name))
    assert prints[0] == prints[1] != prints[2]


def test_workers_leave_the_bytes_of_one_process(tmp_path) -> None:
    make_trainer(tmp_path / "one").run()
    make_trainer(tmp_path / "two", workers=2).run()
    assert fingerprint(tmp_path / "two") == fingerprint(tmp_path / "one")


def test_a_run_stopped_between_rounds_resumes_to_the_same_bytes(tmp_path) -> None:
    make_trainer(tmp_path / "whole").run()

    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path / "broken", callbacks=[Stop(2)]).run()
    resumed = make_trainer(tmp_path / "broken")
    assert resumed.round_number == 2
    resumed.run()
    assert fingerprint(tmp_path / "broken") == fingerprint(tmp_path / "whole")


@pytest.mark.parametrize("bits", [4, 5, 8])
def test_with_a_rounded_downlink_training_learns_and_bytes_are_those_of_the_payload(
    tmp_path, bits
) -> None:
    settings = with_training(rounds=8, downlink_bits=bits)
    federation = Federation.build(settings)
    state = Trainer(federation, Fixed(federation, ["fp32"] * 4 + ["skip"]), tmp_path).run()
    sent = broadcast(state, bits, 9, settings.seed)
    shapes = [values.shape for values in state.values()]
    assert sent.num_bytes == encoded_bytes(shapes, bits)
    clients = [c for c in read_clients(tmp_path) if c.round == 8]
    assert [c.downlink_bytes for c in clients] == [sent.num_bytes] * 4 + [0]
    rounds = read_rounds(tmp_path)
    assert rounds[-1].downlink_bytes == 4 * sent.num_bytes
    assert rounds[-1].float_accuracy > 0.7


def test_clients_start_from_what_they_decode_and_the_server_from_its_own_weights(
    tmp_path, monkeypatch
) -> None:
    """Training that moves nothing leaves the server's weights as they were, not rounded."""
    settings = with_training(rounds=1, downlink_bits=4, learning_rate=1e-30)
    federation = Federation.build(settings)
    start = read_weights(federation.model)
    trainer = Trainer(federation, Fixed(federation, ["fp32"] * 5), tmp_path)
    started = []
    train = LocalTrainer.train

    def watch(self, weights, *arguments):
        started.append(weights)
        return train(self, weights, *arguments)

    monkeypatch.setattr(LocalTrainer, "train", watch)
    trained = trainer.run()
    expected = broadcast(start, 4, 1, settings.seed).weights
    assert len(started) == 5
    for name, values in start.items():
        np.testing.assert_allclose(trained[name], values, rtol=0, atol=1e-20)
        assert all((weights[name] == expected[name]).all() for weights in started)
    assert any((expected[name] != values).any() for name, values in start.items())


def test_a_run_with_a_rounded_downlink_resumes_to_the_same_bytes(tmp_path) -> None:
    settings = with_training(rounds=4, downlink_bits=4)
    make_trainer(tmp_path / "whole", settings).run()

    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path / "broken", settings, callbacks=[Stop(2)]).run()
    make_trainer(tmp_path / "broken", settings).run()
    assert fingerprint(tmp_path / "broken") == fingerprint(tmp_path / "whole")


@pytest.mark.parametrize("bits", [0, 1, 2, 3, 9, 16, True, "4", None])
def test_a_downlink_at_other_widths_is_refused(bits) -> None:
    with pytest.raises(ValueError, match="downlink_bits"):
        with_training(downlink_bits=bits)


def test_a_raw_downlink_is_the_weights_themselves_and_broken_ones_are_not_sent() -> None:
    weights = {"w": np.random.default_rng(0).normal(size=(30, 40)).astype(np.float32)}
    sent = broadcast(weights, 32, 1, seed=0)
    assert sent.weights["w"].tobytes() == weights["w"].tobytes()
    other = broadcast(weights, 4, 1, seed=0).weights["w"]
    assert (other != broadcast(weights, 4, 2, seed=0).weights["w"]).any()  # a round's own noise
    weights["w"][0, 0] = np.inf
    with pytest.raises(FedHQError, match=r"model of round 1.*'w'.*learning_rate"):
        broadcast(weights, 32, 1, seed=0)


def test_records_after_the_checkpoint_are_dropped_on_resume(tmp_path) -> None:
    settings = with_training(rounds=4, checkpoint_every=3)
    make_trainer(tmp_path / "whole", settings).run()

    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path / "broken", settings, callbacks=[Stop(2)]).run()
    assert len(read_rounds(tmp_path / "broken")) == 2
    make_trainer(tmp_path / "broken", settings).run()
    assert fingerprint(tmp_path / "broken") == fingerprint(tmp_path / "whole")


def test_resuming_takes_up_what_the_planner_has_learned(tmp_path) -> None:
    """With coverage carried over, the frontier of a round depends on those before it."""
    settings = replace(with_training(rounds=6), participation=ParticipationSettings(cohort=2))
    solver = FrontierPick(FastestWithin(0.02))
    make_trainer(tmp_path / "whole", settings, solver, carry=0.9).run()

    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path / "broken", settings, solver, carry=0.9, callbacks=[Stop(3)]).run()
    make_trainer(tmp_path / "broken", settings, solver, carry=0.9).run()
    assert fingerprint(tmp_path / "broken") == fingerprint(tmp_path / "whole")


@pytest.mark.parametrize(("rounds", "checkpoint_every"), [(1, 1), (4, 10)])
def test_records_without_their_checkpoint_are_not_thrown_away(
    tmp_path, rounds, checkpoint_every
) -> None:
    settings = with_training(rounds=rounds, checkpoint_every=checkpoint_every)
    make_trainer(tmp_path, settings).run()
    before = (tmp_path / "rounds.jsonl").read_bytes()
    (tmp_path / "checkpoint.safetensors").unlink()
    with pytest.raises(CheckpointError, match=rf"records of {rounds} rounds.*another folder"):
        make_trainer(tmp_path, settings)
    assert (tmp_path / "rounds.jsonl").read_bytes() == before


def test_without_error_feedback_nothing_is_kept_of_a_client(tmp_path) -> None:
    kept = {}
    for feeds_back in (True, False):
        folder = tmp_path / str(feeds_back)
        settings = with_training(rounds=2, error_feedback=feeds_back)
        federation = Federation.build(settings)
        texts = ["fp32", "fp32", "ptq-w2a2", "qat-w2a2", "skip"]
        with pytest.raises(KeyboardInterrupt):
            Trainer(federation, Fixed(federation, texts), folder, callbacks=[Stop(1)]).run()
        first = load_checkpoint(folder / "checkpoint.safetensors")
        Trainer(federation, Fixed(federation, texts), folder).run()
        kept[feeds_back] = first, load_checkpoint(folder / "checkpoint.safetensors")
    assert list(kept[True][0].residuals) == list(kept[True][1].residuals) == [2, 3]
    assert all(np.abs(owed).max() > 0 for owed in kept[True][1].residuals.values())
    assert not kept[False][0].residuals
    assert not kept[False][1].residuals
    same = [
        all((a.weights[k] == b.weights[k]).all() for k in a.weights)
        for a, b in zip(kept[True], kept[False], strict=True)
    ]
    assert same == [True, False]  # a first upload owes nothing


def test_saving_is_told_by_the_next_round_of_the_same_start(tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path, callbacks=[Stop(2)]).run()
    make_trainer(tmp_path).run()
    walls = [json.loads(line) for line in (tmp_path / "wall.jsonl").read_text().splitlines()]
    assert [wall["save_seconds"] > 0 for wall in walls] == [False, True, False, True]


def test_a_finished_run_is_not_trained_again(tmp_path) -> None:
    first = make_trainer(tmp_path).run()
    before = (tmp_path / "wall.jsonl").read_bytes()
    again = make_trainer(tmp_path).run()
    assert all(np.array_equal(first[k], again[k]) for k in first)
    assert (tmp_path / "wall.jsonl").read_bytes() == before


def test_another_configuration_is_refused_in_a_used_folder(tmp_path) -> None:
    make_trainer(tmp_path, config={"training": {"rounds": 4}}).run()
    with pytest.raises(CheckpointError, match=r"training\.rounds"):
        make_trainer(tmp_path, config={"training": {"rounds": 9}})


def test_a_client_that_diverges_is_left_out_and_recorded(tmp_path) -> None:
    federation = Federation.build(SETTINGS)
    spoil(federation, 2)
    Trainer(federation, Fixed(federation, ["fp32"] * 5), tmp_path).run()
    statuses = [c.status for c in read_clients(tmp_path) if c.round == 1]
    assert statuses == ["ok", "ok", "failed", "ok", "ok"]
    assert np.isfinite(read_rounds(tmp_path)[-1].deployed_accuracy)


def test_a_run_without_any_usable_update_says_what_to_do(tmp_path) -> None:
    federation = Federation.build(SETTINGS)
    for client in range(5):
        spoil(federation, client)
    with pytest.raises(FedHQError, match=r"no client.*in 3 rounds.*round 3.*learning_rate"):
        Trainer(federation, Fixed(federation, ["fp32"] * 5), tmp_path).run()


def test_cohorts_are_sampled_anew_every_round_and_reproducibly(tmp_path) -> None:
    settings = replace(with_training(rounds=6), participation=ParticipationSettings(cohort=2))
    for name in "ab":
        make_trainer(tmp_path / name, settings).run()
    cohorts: dict[int, list[int]] = {}
    for c in read_clients(tmp_path / "a"):
        cohorts.setdefault(c.round, []).append(c.client)
    assert all(len(set(cohort)) == 2 for cohort in cohorts.values())
    assert len({tuple(cohort) for cohort in cohorts.values()}) > 1
    assert read_clients(tmp_path / "a") == read_clients(tmp_path / "b")


def test_rounds_that_are_not_evaluated_say_so(tmp_path) -> None:
    make_trainer(tmp_path, with_training(rounds=5, evaluate_every=2)).run()
    evaluated = [r.deployed_accuracy is not None for r in read_rounds(tmp_path)]
    assert evaluated == [False, True, False, True, True]
