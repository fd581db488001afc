"""`allocated` and `train_with_allocation`: QAT as deployment will quantize, float again after."""

import copy

import numpy as np
import pytest
import torch
from flower_clients import answer, arrays_of, context, decision_for, network, order, pattern
from flwr.clientapp import ClientApp
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fedhq.allocator.strategy import Strategy
from fedhq.fl_core.data.convert import as_dataset
from fedhq.fl_core.deployment import make_recipe
from fedhq.fl_core.engine.local import LocalTrainer
from fedhq.fl_core.flower.client.mod import quant_mod
from fedhq.fl_core.flower.client.training import allocated, decision_of, train_with_allocation
from fedhq.fl_core.flower.messages.orders import CannotError
from fedhq.fl_core.settings import LayerSettings, QuantizationSettings, TrainingSettings
from fedhq.fl_core.weights import read_weights
from fedhq.models import fake_quant_layers, prepare_

IMAGES, LABELS = pattern()
SETTINGS = QuantizationSettings(group_size=4, keep_last=True, weight_fit="absmax")


def inside(model, strategy, work, **changes):
    """Runs `work(message)` where an app of fedhq would: with a decision of this strategy."""
    arrays = arrays_of(model)
    app, out = ClientApp(mods=[quant_mod]), []

    @app.train()
    def train(message, _):
        out.append(work(message))
        return answer(message, message.content["arrays"])

    app(order(arrays, decision_for(arrays, strategy, **changes)), context())
    return out[0]


def is_float(model):
    return not any(True for _ in fake_quant_layers(model))


def sgd(model, rate=0.1):
    return torch.optim.SGD(model.parameters(), rate)


def mlp():
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))


@pytest.mark.parametrize("settings", [QuantizationSettings(), SETTINGS])
@pytest.mark.parametrize("strategy", ["qat-w2a2", "qat-w4a8-u8"])
def test_qat_computes_what_prepare_computes_with_the_deployments_recipe(settings, strategy):
    model, bits = network(), Strategy.parse(strategy)
    recipe = make_recipe(settings, bits.weight_bits, bits.activation_bits)
    expected = prepare_(copy.deepcopy(model), recipe)

    def work(message):
        with allocated(model, message) as same:
            assert same is model
            return model(IMAGES)

    got = inside(model, strategy, work, quantization=settings)
    assert (got == expected(IMAGES)).all()
    assert (got != network()(IMAGES)).any()
    assert is_float(model)


@pytest.mark.parametrize("strategy", ["ptq-w2a2", "fp32", "fp32-u4"])
def test_what_is_not_qat_trains_in_float(strategy):
    model = mlp()

    def work(message):
        with allocated(model, message):
            assert is_float(model)
            return model(IMAGES)

    assert (inside(model, strategy, work) == mlp()(IMAGES)).all()


def test_without_a_decision_it_trains_plainly():
    model, message = mlp(), order(arrays_of(mlp()))
    assert decision_of(message) is None
    with allocated(model, message):
        assert is_float(model)


@pytest.mark.parametrize("strategy", ["qat-w2a2", "ptq-w2a2"])
def test_the_helper_trains_as_the_in_process_trainer_does(strategy):
    """Bit for bit, where the batches are the same."""
    model, data = mlp(), as_dataset((IMAGES, LABELS), 3)
    settings = TrainingSettings(local_steps=4, batch_size=16, learning_rate=0.1)
    trainer = LocalTrainer(copy.deepcopy(model), settings)
    before = read_weights(model)
    rng = np.random.default_rng(0)
    oracle = trainer.train(before, data, Strategy.parse(strategy), 0.1, np.random.default_rng(0))
    rows = torch.from_numpy(rng.permutation(64)).split(16)
    batches = [(data.inputs[at], data.labels[at]) for at in rows]

    def work(message):
        return train_with_allocation(model, batches, message, optimizer=sgd(model))

    loss = inside(model, strategy, work)
    assert loss == pytest.approx(oracle.train_loss, rel=1e-6)
    for name, values in read_weights(model).items():
        assert (values - before[name]).tobytes() == oracle.update[name].tobytes(), name
    assert is_float(model)


def test_a_loop_of_ones_own_trains_as_the_helper_does():
    """Whether its optimizer is made before or inside."""
    batches = [*zip(IMAGES.split(16), LABELS.split(16), strict=True)]

    def loop(model, optimizer):
        for inputs, labels in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), labels).backward()
            optimizer.step()

    def by_helper(model, message):
        train_with_allocation(model, batches, message, optimizer=sgd(model))

    def made_before(model, message):
        optimizer = sgd(model)
        with allocated(model, message):
            loop(model, optimizer)

    def made_inside(model, message):
        with allocated(model, message):
            loop(model, sgd(model))

    trained = []
    for way in (by_helper, made_before, made_inside):
        model = mlp()
        inside(model, "qat-w2a2", lambda message, m=model, w=way: w(m, message))
        trained.append(torch.cat([p.detach().ravel() for p in model.parameters()]))
    assert (trained[0] == trained[1]).all()
    assert (trained[0] == trained[2]).all()
    assert (trained[0] != torch.cat([p.ravel() for p in mlp().parameters()])).any()


def test_batches_may_be_columns_by_name_and_a_loaders():
    model, other = mlp(), mlp()
    loader = DataLoader(TensorDataset(IMAGES, LABELS), batch_size=16)
    named = [{"img": x, "label": y} for x, y in loader]
    one = train_with_allocation(model, loader, {}, optimizer=sgd(model), epochs=2)
    two = train_with_allocation(other, named, {}, optimizer=sgd(other), epochs=2)
    assert one == two


@pytest.mark.parametrize(
    ("loader", "match"),
    [
        ([], "must give a batch"),
        ([(IMAGES, LABELS, LABELS)], "must be .inputs, labels., but holds 3"),
        ([{"text": IMAGES, "label": LABELS}], "must have one of the columns"),
    ],
)
def test_batches_that_are_none_are_refused_and_the_model_stays_float(loader, match):
    model = mlp()

    def work(message):
        with pytest.raises(ValueError, match=match):
            train_with_allocation(model, loader, message, optimizer=sgd(model))

    inside(model, "qat-w2a2", work)
    assert is_float(model)


def test_an_exception_inside_leaves_the_model_float():
    model = mlp()

    def work(message):
        with allocated(model, message):
            assert not is_float(model)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        inside(model, "qat-w2a2", work)
    assert is_float(model)
    assert list(model.state_dict()) == list(mlp().state_dict())


@pytest.mark.parametrize(
    "settings",
    [
        QuantizationSettings(exclude=("missing*",)),
        QuantizationSettings(layers=(LayerSettings("missing", 2, 2),)),
        QuantizationSettings(exclude=("*",)),
    ],
)
def test_bits_that_the_model_cannot_have_are_said_to_the_server(settings):
    model = mlp()

    def work(message):
        with allocated(model, message):
            raise AssertionError

    with pytest.raises(CannotError, match=r"^fedhq: qat-w2a2 does not fit this model"):
        inside(model, "qat-w2a2", work, quantization=settings)
    assert is_float(model)


def test_a_model_that_quantizes_already_is_the_apps_mistake():
    """Not the client's fault, so no reason never to decide this again."""
    model = mlp()

    def work(message):
        with allocated(model, message), allocated(model, message):
            raise AssertionError

    with pytest.raises(ValueError, match="quantizes already"):
        inside(model, "qat-w2a2", work)
    assert is_float(model)


def test_a_decision_that_came_past_the_mod_is_an_error():
    arrays = arrays_of(mlp())
    with pytest.raises(ValueError, match=r"ClientApp\(mods=\[quant_mod\]\)"):
        decision_of(order(arrays, decision_for(arrays)))
    with pytest.raises(ValueError, match="quant_mod"):
        decision_of({"fedhq": "{}"})
