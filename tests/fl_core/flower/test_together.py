"""Both sides at once: `AllocatorStrategy` around FedAvg, real `ClientApp`s, one process."""

import pytest
import torch
from flower_clients import answer, arrays_of, context, network, pattern
from flower_fleet import FakeGrid, all_around, play
from flwr.app import ArrayRecord, Error, Message
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import LocalDpMod, fixedclipping_mod
from flwr.serverapp.strategy import DifferentialPrivacyClientSideFixedClipping, FedAvg
from torch.utils.data import DataLoader, TensorDataset

from fedhq.fl_core.flower import ClientProfile, register_profile
from fedhq.fl_core.flower.client.mod import quant_mod
from fedhq.fl_core.flower.client.training import allocated, train_with_allocation
from fedhq.fl_core.settings import QuantizationSettings
from fedhq.models import accuracy


class AppNode:
    """A node that runs an app, as Flower does: what it raises becomes an error reply."""

    silent = False

    def __init__(self, number, work, mods=(), build=network):
        self.context = context(**{"partition-id": number})
        self.app = ClientApp(mods=[quant_mod, *mods])
        register_profile(self.app, lambda _: ClientProfile(str(number), num_examples=64))

        @self.app.train()
        def train(message, _):
            model = build()
            model.load_state_dict(message.content["arrays"].to_torch_state_dict())
            loader = DataLoader(TensorDataset(*pattern(64, seed=number)), batch_size=16)
            work(model, loader, message)
            return answer(message, arrays_of(model), num_examples=64)

    def answer(self, message):
        try:
            return self.app(message, self.context)
        except Exception as error:
            return Message(Error(2, f"{type(error)}:<'{error}'>"), reply_to=message)


def by_helper(model, loader, message):
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    train_with_allocation(model, loader, message, optimizer=optimizer)


def loop(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for images, labels in loader:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()


def in_float(model, loader, message):
    """An app that forgot about QAT."""
    loop(model, loader)


def by_itself(model, loader, message):
    with allocated(model, message):
        loop(model, loader)


def play_rounds(works, menu, rounds=3, **about):
    grid = FakeGrid({70 + k: AppNode(k, work) for k, work in enumerate(works)})
    inner = FedAvg(min_available_nodes=len(works), fraction_evaluate=0.0)
    strategy = all_around(inner, menu, **about)
    result = play(strategy, grid, rounds, arrays_of(network()), timeout=5.0)
    return result.arrays, strategy.ledger.clients


def accuracy_of(arrays: ArrayRecord) -> float:
    model = network()
    model.load_state_dict(arrays.to_torch_state_dict())
    images, labels = pattern(120, seed=9)
    return accuracy(model, images, labels, batch_size=120)


@pytest.mark.parametrize("bits", [8, 32])
def test_a_network_with_batch_normalisation_learns_by_qat_over_a_narrow_wire(bits):
    before = accuracy_of(arrays_of(network()))
    arrays, records = play_rounds([by_helper] * 3, ["qat-w4a4"], rounds=4, downlink_bits=bits)
    assert [r.status for r in records] == ["ok"] * 12
    assert accuracy_of(arrays) > max(before, 0.5) + 0.2
    state = arrays.to_torch_state_dict()
    assert int(state["1.num_batches_tracked"]) == 16  # four steps in each of four rounds
    assert all(torch.isfinite(value).all() for value in state.values())
    floats = sum(v.numel() * 4 for v in state.values())
    assert max(r.uplink_bytes for r in records) < floats / 4  # headers weigh, of so few


def test_who_cannot_does_something_else_from_the_next_round_on():
    """An app without `allocated` is not counted as QAT, nor asked for it again."""
    works = [by_helper, in_float]
    _, records = play_rounds(works, ["ptq-w2a2", "qat-w2a2"], rounds=3)
    of_second = [(r.strategy, r.status) for r in records if r.client == 1]
    assert of_second[0] == ("qat-w2a2", "failed")
    assert ("qat-w2a2", "failed") not in of_second[1:]
    assert of_second[-1] == ("ptq-w2a2", "ok")


def test_layers_that_do_not_fit_are_said_and_the_run_goes_on():
    wrong = QuantizationSettings(exclude=("missing*",))
    _, records = play_rounds(
        [by_itself] * 2, ["ptq-w2a2", "qat-w2a2"], rounds=2, quantization=wrong
    )
    first = [r for r in records if r.round == 1]
    assert all("does not fit this model" in r.reason for r in first if r.status == "failed")
    assert "failed" in {r.status for r in first}
    second = {(r.client, r.strategy, r.status) for r in records if r.round == 2}
    assert second == {(0, "ptq-w2a2", "ok"), (1, "ptq-w2a2", "ok")}


def without_counter():
    """A network to whose arrays Flower's mods can add noise."""
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))


def private_run(mod, inner, build=network):
    grid = FakeGrid({70 + k: AppNode(k, by_itself, [mod], build) for k in range(2)})
    strategy = all_around(inner, ["ptq-w2a2"])
    play(strategy, grid, 1, arrays_of(build()), timeout=5.0)
    return [(r.strategy, r.status) for r in strategy.ledger.clients]


def test_noise_of_the_clients_stands_behind_our_mod_in_the_app():
    """Mods of an app also go around queries, and these want a model in every message."""
    private = LocalDpMod(clipping_norm=1.0, sensitivity=0.01, epsilon=1.0, delta=1e-5)
    inner = FedAvg(min_available_nodes=2, fraction_evaluate=0.0)
    assert private_run(private, inner, without_counter) == [("ptq-w2a2", "ok")] * 2


def test_flowers_wrapper_whose_clients_clip_works_inside():
    inner = FedAvg(min_available_nodes=2, fraction_evaluate=0.0)
    inner = DifferentialPrivacyClientSideFixedClipping(inner, 1e-3, 1.0, num_sampled_clients=2)
    assert private_run(fixedclipping_mod, inner) == [("ptq-w2a2", "ok")] * 2
