"""Engines: equal bytes wherever a client trains, whoever dies; and what training computes."""

import copy
import multiprocessing
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fedhq.allocator.errors import FedHQError
from fedhq.allocator.strategy import Strategy
from fedhq.fl_core.data.clients import ListedClients
from fedhq.fl_core.data.registry import load_dataset
from fedhq.fl_core.engine.local import LocalTrainer, batches, local_steps
from fedhq.fl_core.engine.pool import WorkerPool
from fedhq.fl_core.engine.precision import use_bfloat16_
from fedhq.fl_core.engine.serial import SerialEngine
from fedhq.fl_core.engine.sgd import Sgd
from fedhq.fl_core.engine.work import Setup, Work
from fedhq.fl_core.settings import QuantizationSettings, TrainingSettings
from fedhq.fl_core.weights import read_weights
from fedhq.models import build_model

sys.path.insert(0, str(Path(__file__).parent))  # workers import it by this name
from odd_clients import Odd, Unreadable, let_time_fly

FP32, QAT = Strategy.parse("fp32"), Strategy.parse("qat-w2a2")


def make_setup(num_clients=4, model=None, **changes) -> Setup:
    data = load_dataset("digits")
    clients = tuple(data.take(np.arange(40 * k, 40 * k + 40)) for k in range(num_clients))
    model = build_model("mlp", (1, 8, 8), 10, 0) if model is None else model
    training = replace(TrainingSettings(batch_size=16, momentum=0.5), **changes)
    return Setup(model, Odd(clients), training, QuantizationSettings(), 3)


def works(num_clients=4, round_number=1) -> list[Work]:
    strategies = [FP32, QAT]
    return [Work(round_number, k, strategies[k % 2], 0.1) for k in range(num_clients)]


def train_all(engine, weights, todo) -> dict[int, tuple[bytes, float]]:
    done = {}
    for t in engine.train(weights, todo):
        assert t.error is None, t.error
        done[t.work.client] = (b"".join(v.tobytes() for v in t.update.values()), t.train_loss)
    return done


def test_workers_give_the_bytes_of_one_process_round_after_round() -> None:
    setup = make_setup()
    weights = read_weights(setup.model)
    other = {name: values * np.float32(0.5) for name, values in weights.items()}
    serial, pool = SerialEngine(setup), WorkerPool(setup, 2)
    try:
        for sent, number in ((weights, 1), (other, 2)):
            expected = train_all(serial, sent, works(round_number=number))
            assert train_all(pool, sent, works(round_number=number)) == expected
            assert len(set(expected.values())) == 4
        assert len(pool.process_ids) == 2
    finally:
        pool.close()
    assert pool.process_ids == ()
    with pytest.raises(FedHQError, match="closed"):
        list(pool.train(weights, works()))


def test_many_clients_of_a_model_of_many_tensors_that_train_together_fit_in_workers() -> None:
    """A process cannot be sent more than about 250 blocks of shared memory."""
    layers = [nn.Linear(4, 4) for _ in range(148)]
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), *layers, nn.Linear(4, 10))
    data = load_dataset("digits")
    clients = ListedClients(tuple(data.take(np.arange(5 * k, 5 * k + 5)) for k in range(300)))
    setup = replace(make_setup(1, model, clients_together=256, local_steps=1), clients=clients)
    weights = read_weights(setup.model)
    todo = [Work(1, k, FP32, 0.1) for k in range(300)]
    expected = train_all(SerialEngine(setup), weights, todo)
    pool = WorkerPool(setup, 2)
    try:
        assert train_all(pool, weights, todo) == expected
    finally:
        pool.close()
    assert (len(weights), len(expected)) == (300, 300)


def test_a_killed_worker_s_client_is_trained_again_to_the_same_bytes(tmp_path) -> None:
    setup = make_setup()
    weights = read_weights(setup.model)
    expected = train_all(SerialEngine(setup), weights, works())
    odd = replace(setup.clients, dies_once=str(tmp_path / "died"))
    pool = WorkerPool(replace(setup, clients=odd), 2)
    try:
        assert train_all(pool, weights, works()) == expected
        assert (tmp_path / "died").exists()
        os.kill(pool.process_ids[0], signal.SIGKILL)  # while idle
        assert train_all(pool, weights, works()) == expected
    finally:
        pool.close()


@pytest.mark.parametrize("together", [1, 5])
@pytest.mark.parametrize("faults", [{"raises": (3,), "dies": (1,), "hangs": (2,)}, {"hangs": (2,)}])
def test_a_client_that_raises_kills_its_worker_or_never_answers_fails_alone(
    tmp_path, monkeypatch, together, faults
) -> None:
    """Of those that train together, too; the others' updates are those of clients alone."""
    setup = make_setup(5)
    weights = read_weights(setup.model)
    todo = [Work(1, k, FP32, 0.1) for k in range(5)]
    expected = {t.work: t.update for t in SerialEngine(setup).train(weights, todo)}
    marker = tmp_path / "hangs"
    let_time_fly(monkeypatch, marker)
    odd = replace(setup.clients, marker=str(marker), **faults)
    training = replace(setup.training, clients_together=together)
    pool = WorkerPool(replace(setup, clients=odd, training=training), 2, patience_seconds=60.0)
    try:
        done = list(pool.train(weights, todo))
    finally:
        pool.close()
    assert sorted(t.work.client for t in done) == list(range(5))
    reasons = ["OSError: the disk of client 3 is gone", "its worker died 2 times (exit code 3)"]
    reasons = [*reasons[: len(faults) - 1], "no answer in 60 s"]
    assert sorted(t.error for t in done if t.error) == sorted(reasons)
    for t in done:
        assert (t.update is None) == (t.error is not None)
        for name, values in (t.update or {}).items():
            np.testing.assert_array_equal(values, expected[t.work][name])


def test_workers_that_cannot_start_say_what_to_do() -> None:
    setup = make_setup()
    with pytest.raises(FedHQError, match=r"workers start.*__main__"):
        WorkerPool(replace(setup, clients=lambda: None), 1)  # cannot be pickled
    pool = WorkerPool(replace(setup, clients=Unreadable()), 1)
    with pytest.raises(FedHQError, match=r"exit code 5 before their first word.*__main__"):
        list(pool.train(read_weights(setup.model), works()[:1]))
    assert pool.process_ids == ()


def test_where_the_machine_has_no_room_for_workers_no_program_is_blamed(monkeypatch) -> None:
    def refuse(self) -> None:
        raise OSError("Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(multiprocessing.context.ForkServerProcess, "start", refuse)
        with pytest.raises(FedHQError, match=r"Too many open files\. Take fewer workers") as error:
            WorkerPool(make_setup(), 1)
    assert "__main__" not in str(error.value)
    pool = WorkerPool(replace(make_setup(), clients=Unreadable(signal.SIGKILL)), 1)
    with pytest.raises(FedHQError, match=r"exit code -9 before their first word.*Take fewer"):
        list(pool.train(read_weights(make_setup().model), works()[:1]))


def test_if_one_worker_cannot_start_none_is_left(monkeypatch) -> None:
    left, start = [1, 1], WorkerPool._start

    def refuse(self):
        if not left:
            raise FedHQError("no more processes")
        left.pop()
        return start(self)

    monkeypatch.setattr(WorkerPool, "_start", refuse)
    before = set(multiprocessing.active_children())
    with pytest.raises(FedHQError, match="no more processes"):
        WorkerPool(make_setup(), 3)
    assert set(multiprocessing.active_children()) == before


def test_a_pool_ends_at_once_though_a_client_hangs(monkeypatch) -> None:
    monkeypatch.setattr("fedhq.fl_core.engine.pool._END_SECONDS", 90.0)
    setup = make_setup()
    pool = WorkerPool(replace(setup, clients=replace(setup.clients, hangs=(0, 1))), 3)
    answers = pool.train(read_weights(setup.model), works())
    next(answers)
    start = time.monotonic()
    pool.close()
    assert time.monotonic() - start < 60.0  # no time of grace for whoever hangs
    assert pool.process_ids == ()


def test_who_stops_to_listen_leaves_no_answer_behind() -> None:
    setup = make_setup()
    weights = read_weights(setup.model)
    pool = WorkerPool(setup, 2)
    try:
        for _ in pool.train(weights, works()):
            break
        assert train_all(pool, weights, works(round_number=7)) == train_all(
            SerialEngine(setup), weights, works(round_number=7)
        )
    finally:
        pool.close()


@pytest.mark.parametrize(("workers", "patience"), [(0, None), (-1, None), (1, 0.0), (1, -2.0)])
def test_pools_of_nobody_or_without_patience_are_refused(workers, patience) -> None:
    with pytest.raises(ValueError, match="must hold"):
        WorkerPool(make_setup(), workers, patience)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_step_is_that_of_torch_bit_for_bit(momentum) -> None:
    models = [build_model("mlp", (1, 8, 8), 10, 0) for _ in range(2)]
    theirs = torch.optim.SGD(models[0].parameters(), lr=0.1, momentum=momentum)
    ours = Sgd(list(models[1].parameters()), 0.1, momentum)
    data = load_dataset("digits")
    for k in range(5):
        batch = data.take(np.arange(32 * k, 32 * k + 32))
        for model, step in zip(models, (theirs, ours), strict=True):
            nn.functional.cross_entropy(model(batch.inputs), batch.labels).backward()
            step.step()
        theirs.zero_grad()
    for p, q in zip(*(m.parameters() for m in models), strict=True):
        assert torch.equal(p, q)
        assert q.grad is None


def test_the_proximal_term_is_that_of_fedprox() -> None:
    weight = nn.Parameter(torch.tensor([2.0, -1.0]))
    sgd = Sgd([weight], 0.1, proximal=0.5)
    for _ in range(3):
        (weight**2).sum().backward()
        sgd.step()
    expected, start = np.array([2.0, -1.0]), np.array([2.0, -1.0])
    for _ in range(3):
        expected = expected - 0.1 * (2 * expected + 0.5 * (expected - start))
    np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-6)


def test_steps_are_counted_as_they_are_taken() -> None:
    for changes in ({"local_epochs": 3}, {"local_steps": 7}, {"local_steps": 1}):
        settings = TrainingSettings(batch_size=16, **changes)
        rows = list(batches(40, settings, np.random.default_rng(0)))
        assert len(rows) == local_steps(40, settings)
    first = torch.cat(list(batches(40, TrainingSettings(batch_size=16), np.random.default_rng(0))))
    assert sorted(first.tolist()) == list(range(40))


def test_dropout_is_seeded_and_leaves_torch_s_own_generator_alone() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
    setup = make_setup(model=net)
    weights = read_weights(net)
    todo = [Work(1, k, FP32, 0.1) for k in range(2)]
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = train_all(SerialEngine(setup), weights, todo)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    assert train_all(SerialEngine(setup), weights, todo) == first
    assert train_all(SerialEngine(replace(setup, seed=4)), weights, todo) != first


@pytest.mark.parametrize("strategy", [FP32, Strategy.parse("qat-w4a4")], ids=str)
def test_bfloat16_trains_about_as_well_with_weights_in_float32(strategy) -> None:
    data = load_dataset("digits").take(np.arange(600))
    losses = {}
    for precision in ("float32", "bfloat16"):
        settings = TrainingSettings(local_epochs=2, precision=precision)
        model = build_model("cnn", (1, 8, 8), 10, 0)
        trainer = LocalTrainer(model, settings)
        weights = read_weights(model)
        result = trainer.train(weights, data, strategy, 0.1, np.random.default_rng(0))
        assert all(v.dtype == np.float32 for v in result.update.values())
        losses[precision] = result.train_loss
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.05)


def test_bfloat16_is_of_convolutions_alone_and_their_gradients_are_float32() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), nn.GroupNorm(1, 3))
    x = torch.randn(4, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    lowered = use_bfloat16_(copy.deepcopy(net), torch.device("cpu"))
    with torch.no_grad():
        expected = net[1](copy.deepcopy(net[0]).bfloat16()(x.bfloat16()).float())
    found = lowered(x)
    assert torch.equal(found, expected)
    found.square().sum().backward()
    assert {p.grad.dtype for p in lowered.parameters()} == {torch.float32}


def test_networks_and_devices_that_do_not_suit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'1' is a BatchNorm1d.*GroupNorm"):
        LocalTrainer(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), TrainingSettings())
    with pytest.raises(ValueError, match="parameters to train"):
        LocalTrainer(nn.Flatten(), TrainingSettings())
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"device.*'cuda'.*finds no CUDA"):
            LocalTrainer(nn.Linear(2, 2), TrainingSettings(device="cuda"))
    with pytest.raises(ValueError, match="device"):
        TrainingSettings(device="tpu")


def test_a_client_without_data_fails_alone() -> None:
    setup = make_setup()
    empty = setup.clients.clients[0].take(np.arange(0))
    engine = SerialEngine(replace(setup, clients=(empty,)))
    (done,) = engine.train(read_weights(setup.model), [Work(1, 0, FP32, 0.1)])
    assert done.update is None
    assert "holds an example" in done.error
