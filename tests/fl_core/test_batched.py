"""Clients that train together: what each gets alone, whoever it is stacked with."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fedhq.allocator.strategy import Strategy
from fedhq.fl_core.data.clients import ListedClients
from fedhq.fl_core.data.datasets import Dataset
from fedhq.fl_core.data.registry import load_dataset
from fedhq.fl_core.engine.pool import WorkerPool
from fedhq.fl_core.engine.serial import SerialEngine
from fedhq.fl_core.engine.work import Setup, Work, make_groups
from fedhq.fl_core.settings import QuantizationSettings, TrainingSettings
from fedhq.fl_core.weights import read_weights
from fedhq.models import build_model

sys.path.insert(0, str(Path(__file__).parent))  # workers import it by this name
from odd_clients import Odd

FP32, PTQ = Strategy.parse("fp32"), Strategy.parse("ptq-w2a2")
QAT8, QAT2 = Strategy.parse("qat-w8a8"), Strategy.parse("qat-w2a2")
SIZES = (40, 23, 40, 7, 33, 40, 16, 40, 40)


def make_setup(model=None, sizes=SIZES, **changes) -> Setup:
    data = load_dataset("digits")
    ends = np.cumsum(sizes)
    clients = ListedClients(
        tuple(data.take(np.arange(end - size, end)) for size, end in zip(sizes, ends, strict=True))
    )
    model = build_model("mlp", (1, 8, 8), 10, 0) if model is None else model
    training = replace(TrainingSettings(batch_size=16), **{"clients_together": 8, **changes})
    return Setup(model, clients, training, QuantizationSettings(), 3)


def works(*strategies, number=9) -> list[Work]:
    return [Work(1, k, strategies[k % len(strategies)], 0.1) for k in range(number)]


def train(setup, todo, engine=SerialEngine):
    done = {t.work.client: t for t in engine(setup).train(read_weights(setup.model), todo)}
    assert sorted(done) == sorted(work.client for work in todo)
    return done


def assert_as_alone(setup, todo, share) -> None:
    """No update is further from that of the client alone than a share of its length."""
    together = train(setup, todo)
    alone = train(replace(setup, training=replace(setup.training, clients_together=1)), todo)
    for client, expected in alone.items():
        assert expected.error is None
        found = together[client]
        assert found.train_loss == pytest.approx(expected.train_loss, rel=max(share, 1e-4))
        for name, values in expected.update.items():
            distance = np.linalg.norm(found.update[name] - values)
            assert distance <= share * np.linalg.norm(values) + 1e-7, (client, name)


@pytest.mark.parametrize("strategy", [FP32, QAT8], ids=str)
@pytest.mark.parametrize(
    "changes",
    [{}, {"momentum": 0.9, "proximal": 0.5, "local_epochs": 2}, {"local_steps": 4}],
    ids=["plain", "momentum and pull", "steps"],
)
def test_each_client_gets_what_it_gets_alone(strategy, changes) -> None:
    assert_as_alone(make_setup(**changes), works(strategy), 1e-4 if strategy is FP32 else 0.1)


@pytest.mark.parametrize("name", ["cnn", "resnet8"])
def test_convolutions_do_too(name) -> None:
    setup = make_setup(build_model(name, (1, 8, 8), 10, 0), sizes=(20,) * 4)
    assert_as_alone(setup, works(FP32, number=4), 1e-3)


def test_two_bits_differ_by_few_roundings() -> None:
    assert_as_alone(make_setup(), works(QAT2), 0.3)


def test_examples_that_depend_on_each_other_are_not_filled_up() -> None:
    norm = nn.BatchNorm1d(64, track_running_stats=False)
    net = nn.Sequential(nn.Flatten(), norm, nn.Linear(64, 10))
    assert_as_alone(make_setup(net, sizes=(40,) * 5 + (36, 23)), works(FP32, number=7), 1e-4)


def test_a_group_that_fails_goes_on_without_the_guilty() -> None:
    norm = nn.BatchNorm1d(64, track_running_stats=False)
    done = train(make_setup(nn.Sequential(nn.Flatten(), norm, nn.Linear(64, 10))), works(FP32))
    assert [k for k in done if done[k].error] == [4]  # its last batch holds one example
    assert "more than 1 value" in done[4].error


def test_frozen_and_unused_weights_stay_where_they_are() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(64, 8), nn.Linear(8, 10)
            self.idle = nn.Linear(2, 2)
            self.first.weight.requires_grad_(False)

        def forward(self, x):
            return self.last(self.first(x.flatten(1)).relu())

    setup = make_setup(Net(), momentum=0.5, proximal=0.1)
    assert_as_alone(setup, works(FP32), 1e-4)
    update = train(setup, works(FP32))[0].update
    assert not update["first.weight"].any()
    assert not update["idle.weight"].any()
    assert update["first.bias"].any()


@pytest.mark.parametrize("strategy", [FP32, QAT8], ids=str)
def test_bfloat16_is_that_of_each_alone(strategy) -> None:
    model = build_model("cnn", (1, 8, 8), 10, 0)
    setup = make_setup(model, sizes=(32,) * 4, precision="bfloat16")
    assert_as_alone(setup, works(strategy, number=4), 0.1)


def test_groups_are_of_one_kind_and_like_size_whatever_the_workers() -> None:
    setup = make_setup(clients_together=3)
    groups = make_groups(works(FP32, QAT2, PTQ), setup)
    assert sorted(w.client for group in groups for w in group) == list(range(9))
    assert [[w.client for w in group] for group in groups] == [[3, 6, 0], [2, 5, 8], [1, 4, 7]]
    late = replace(works(FP32)[1], learning_rate=0.05)
    assert len(make_groups([works(FP32)[0], late], setup)) == 2


def test_workers_give_the_bytes_of_one_process() -> None:
    setup = make_setup(clients_together=3)
    todo = works(FP32, QAT2)
    expected = train(setup, todo)
    pool = WorkerPool(setup, 2)
    try:
        found = {t.work.client: t for t in pool.train(read_weights(setup.model), todo)}
    finally:
        pool.close()
    for client, trained in expected.items():
        assert found[client].train_loss == trained.train_loss
        for name, values in trained.update.items():
            assert found[client].update[name].tobytes() == values.tobytes()


@dataclass(frozen=True)
class Counted(Odd):
    @property
    def num_examples(self):
        return np.array([len(data) for data in self.clients])


def test_a_client_that_cannot_be_read_or_holds_nonsense_harms_nobody() -> None:
    setup = make_setup()
    data = list(setup.clients)
    data[1] = replace(data[1], inputs=data[1].inputs * torch.nan)
    setup = replace(setup, clients=Counted(tuple(data), raises=(3,)))
    done = train(setup, works(FP32))
    assert done[3].error == "OSError: the disk of client 3 is gone"
    assert np.isnan(done[1].train_loss)
    others = [done[k] for k in (0, 2, 4, 5, 6, 7, 8)]
    assert all(np.isfinite(t.train_loss) for t in others)
    assert all(np.isfinite(v).all() for t in others for v in t.update.values())


def test_what_the_network_draws_is_seeded_and_differs_between_clients() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
    setup = make_setup(net, sizes=(40,) * 4, batch_size=40)
    twins = ListedClients((setup.clients[0],) * 4)  # one batch each: only what is drawn differs
    setup = replace(setup, clients=twins)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = train(setup, works(FP32, number=4))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    assert [t.train_loss for t in train(setup, works(FP32, number=4)).values()] == [
        t.train_loss for t in first.values()
    ]
    assert len({round(t.train_loss, 4) for t in first.values()}) == 4


class Branches(nn.Linear):
    def forward(self, x):
        return super().forward(x) * (2 if float(x.sum()) > 0 else 1)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (build_model("gru", (1, 64), 10, 0), (1, 64)),
        (build_model("vit", (1, 8, 8), 10, 0), (1, 8, 8)),
        (Branches(64, 10), (64,)),
    ],
    ids=["gru", "attention", "branches"],
)
def test_networks_that_do_not_stack_are_refused_at_the_start(model, shape) -> None:
    setup = make_setup()
    data = [Dataset(d.inputs.reshape(-1, *shape), d.labels, 10) for d in setup.clients]
    setup = replace(setup, model=model, clients=ListedClients(tuple(data)))
    for engine in (SerialEngine, lambda setup: WorkerPool(setup, 2)):
        with pytest.raises(ValueError, match=r"vmap stacks.*`training.clients_together`.*got 8"):
            engine(setup)


def test_starting_opens_no_gpu(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: pytest.fail("CUDA was opened"))
    SerialEngine(make_setup(device="cuda"))  # what a pool does in the parent process


def test_nobody_with_data_is_an_error() -> None:
    with pytest.raises(ValueError, match="a client holds an example"):
        SerialEngine(make_setup(sizes=(0, 0)))
