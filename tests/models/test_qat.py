import copy

import pytest
import torch
from torch import nn

from fedhq.models import (
    FakeQuantLayer,
    Fit,
    LayerBits,
    PerGroup,
    Range,
    Recipe,
    accuracy,
    build_model,
    calibrate_,
    convert_,
    deploy,
    fake_quantize,
    fit_activation_range,
    fit_weight_range,
    prepare_,
    weight_range,
)

SHAPE = (1, 8, 8)
TWO = Recipe(2, 2)


@pytest.fixture(params=["cnn", "mlp"])
def model(request):
    return build_model(request.param, SHAPE, num_classes=4, seed=0)


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def patterns(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Four classes, one bright quarter each, in noise."""
    labels = torch.arange(count) % 4
    pictures = images(count, seed) * 0.6
    for k, label in enumerate(labels.tolist()):
        row, column = divmod(label, 2)
        pictures[k, 0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 0.4
    return pictures, labels


def train(model: nn.Module, steps: int, rate: float = 0.05) -> nn.Module:
    inputs, labels = patterns(32 * steps, seed=1)
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum=0.9)
    model.train()
    for batch, truth in zip(inputs.split(32), labels.split(32), strict=True):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch), truth).backward()
        optimizer.step()
    return model


def same_bytes(first: nn.Module, second: nn.Module) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_prepare_keeps_parameters_and_state_dict(model):
    before, objects = copy.deepcopy(model), list(model.parameters())
    assert prepare_(model, TWO) is model
    assert all(a is b for a, b in zip(objects, model.parameters(), strict=True))
    assert same_bytes(model, before)
    kinds = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert kinds
    assert all(isinstance(m, FakeQuantLayer) for m in kinds)


def test_state_dicts_go_from_float_to_prepared_and_back(model):
    fresh = prepare_(copy.deepcopy(model), TWO)
    trained = train(prepare_(copy.deepcopy(model), TWO), steps=2)
    model.load_state_dict(trained.state_dict())
    assert same_bytes(model, trained)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(images(3)), trained(images(3)))
    calibrated = calibrate_(fresh, [images(5)])
    assert calibrated.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize("bits", range(2, 9))
def test_a_prepared_model_without_a_step_converts_to_what_ptq_deploys(model, bits):
    batches, recipe = [images(20, seed) for seed in range(3)], Recipe(bits, bits)
    shipped = deploy(model, recipe, batches)
    by_hand = convert_(calibrate_(prepare_(copy.deepcopy(model), recipe), batches))
    assert same_bytes(shipped, by_hand)
    assert torch.equal(shipped(images(8)), by_hand(images(8)))


@pytest.mark.parametrize("recipe", [TWO, Recipe(8, 8), Recipe(4, 8, PerGroup(3)), Recipe(4, None)])
def test_training_sees_the_weights_that_ship(model, recipe):
    prepared = calibrate_(prepare_(copy.deepcopy(model), recipe), [images(20)]).eval()
    shipped = deploy(model, recipe, [images(20)])
    assert torch.equal(prepared(images(8, 1)), shipped(images(8, 1)))


def test_deploy_leaves_the_float_model_alone(model):
    before = copy.deepcopy(model)
    shipped = deploy(model, TWO, [images(20)])
    assert same_bytes(model, before)
    assert model.training
    assert not shipped.training
    assert not any(isinstance(m, FakeQuantLayer) for m in model.modules())
    assert not any(p.requires_grad for p in shipped.parameters())


@pytest.mark.parametrize("fit", Fit)
def test_shipped_weights_are_codes_times_scale(model, fit):
    shipped = deploy(model, Recipe(2, 2, weight_fit=fit), [images(20)])
    float_layers = dict(model.named_modules())
    for name, layer in shipped.named_modules():
        if isinstance(layer, FakeQuantLayer):
            weight, found = float_layers[name].weight, layer.weight_quantizers.weight
            scale, zero_point = fit_weight_range(weight, 2, (len(weight),), fit)
            assert torch.equal(found.scale, scale)
            assert torch.equal(found.zero_point, zero_point)
            codes = layer.weight.flatten(1) / scale[:, None]
            assert set(codes.unique().tolist()) <= {-2.0, -1.0, 0.0, 1.0}
            assert torch.equal(layer.weight, fake_quantize(weight, scale, 0, *weight_range(2)))


def test_a_static_range_is_the_mean_of_what_the_batches_ask_for():
    model = prepare_(nn.Sequential(nn.Linear(6, 2)), TWO)
    batches = [torch.rand(5, 6, generator=torch.Generator().manual_seed(k)) for k in range(3)]
    calibrate_(model, iter(batches))
    scales = [fit_activation_range(batch, 2)[0] for batch in batches]
    assert torch.equal(model[0].input_quantizer.scale, torch.stack(scales).mean())
    assert model[0].input_quantizer.zero_point == 0


def test_negative_inputs_get_a_zero_point():
    model = prepare_(nn.Sequential(nn.Linear(6, 2)), Recipe(8, 4))
    batches = [torch.rand(5, 6, generator=torch.Generator().manual_seed(k)) - 0.5 for k in range(3)]
    found = calibrate_(model, batches)[0].input_quantizer
    lower, upper = (-found.zero_point * found.scale, (15 - found.zero_point) * found.scale)
    assert lower == pytest.approx(-0.5, abs=0.1)
    assert upper == pytest.approx(0.5, abs=0.1)


def test_a_static_range_is_used_in_eval_mode_only_until_converted():
    layer = nn.Linear(1, 1, bias=False)
    nn.init.ones_(layer.weight)
    model = calibrate_(prepare_(nn.Sequential(layer), Recipe(8, 2)), [torch.tensor([[3.0]])])
    big = torch.tensor([[30.0]])
    assert model.train()(big).item() > 20
    assert model.eval()(big).item() < 4
    assert convert_(model).train()(big).item() < 4


def test_gradients_reach_the_float_weights(model):
    prepare_(model, TWO)
    nn.functional.cross_entropy(model(images(16)), torch.arange(16) % 4).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(p.grad.abs().sum() > 0 for name, p in model.named_parameters() if "weight" in name)


def test_training_is_deterministic(model):
    other = copy.deepcopy(model)
    assert same_bytes(train(prepare_(model, TWO), 5), train(prepare_(other, TWO), 5))


def test_two_bits_suffice_on_an_easy_task_if_training_sees_them():
    model = train(prepare_(build_model("cnn", SHAPE, 4, seed=0), TWO), steps=40)
    plain = build_model("cnn", SHAPE, 4, seed=0)
    plain.load_state_dict(model.state_dict())
    inputs, labels = patterns(200, seed=7)
    shipped = deploy(plain, TWO, [patterns(100, seed=8)[0]])
    assert accuracy(shipped, inputs, labels, 64) > 0.9


def test_eight_bits_barely_change_the_logits(model):
    shipped = deploy(model, Recipe(8, 8), [images(50)])
    wanted = model.eval()(images(20, 3))
    assert (shipped(images(20, 3)) - wanted).norm() / wanted.norm() < 0.05


def test_layers_that_share_a_weight_ship_the_same(model):
    shared = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    shared[2].weight = shared[0].weight
    before = shared[0].weight.detach().clone()
    shipped = deploy(shared, Recipe(3, 8), [torch.rand(4, 6)])
    assert shipped[0].weight is shipped[2].weight
    scale = shipped[0].weight_quantizers.weight.scale
    assert torch.equal(scale, shipped[2].weight_quantizers.weight.scale)
    assert torch.equal(shipped[0].weight, fake_quantize(before, scale, 0, -4, 3))


def test_steps_in_the_wrong_order_are_refused(model):
    with pytest.raises(ValueError, match="`calibrate_` needs a prepared model"):
        calibrate_(model, [images(4)])
    with pytest.raises(ValueError, match="`convert_` needs a prepared model"):
        convert_(model)
    prepare_(model, TWO)
    with pytest.raises(ValueError, match="prepared already"):
        prepare_(model, TWO)
    with pytest.raises(ValueError, match=r"Call `calibrate_` first"):
        convert_(model)
    convert_(calibrate_(model, [images(4)]))
    with pytest.raises(ValueError, match="converted already"):
        convert_(model)
    with pytest.raises(ValueError, match="converted already"):
        calibrate_(model, [images(4)])


def test_calibration_needs_data(model):
    with pytest.raises(ValueError, match="saw none"):
        deploy(model, TWO, [])
    with pytest.raises(ValueError, match="must not be empty"):
        deploy(model, TWO, [images(0)])
    spoiled = images(4)
    spoiled[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="must be finite during calibration"):
        deploy(model, TWO, [spoiled])


def test_a_failed_calibration_can_be_repeated(model):
    prepare_(model, TWO)
    with pytest.raises(ValueError, match="must not be empty"):
        calibrate_(model, [images(4), images(0)])
    calibrate_(model, [images(4)])
    assert model.training
    assert convert_(model)(images(2)).isfinite().all()


def test_a_weight_that_is_not_finite_is_named(model):
    name, parameter = list(model.named_parameters())[-2]
    with torch.no_grad():
        parameter.view(-1)[0] = float("inf")
    with pytest.raises(ValueError, match=f"'{name}' is not"):
        deploy(model, TWO, [images(4)])


def test_a_model_without_such_layers_is_refused():
    with pytest.raises(ValueError, match=r"must have a layer that the recipe quantizes \(nn\.Conv"):
        prepare_(nn.Sequential(nn.ReLU()), TWO)


def test_layers_that_share_a_weight_must_quantize_it_alike():
    def tied() -> nn.Sequential:
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        model[1].weight = model[0].weight
        return model

    with pytest.raises(ValueError, match="share a weight must have the same bits"):
        prepare_(tied(), Recipe(4, 8, layers=(LayerBits("1", 2, 8),)))
    shipped = deploy(tied(), Recipe(4, 8), [torch.rand(5, 4)])
    assert torch.equal(shipped[0].weight, shipped[1].weight)
    assert len(shipped[0].weight[0].unique()) <= 16


@pytest.mark.parametrize("range_", [Range.AVERAGED, Range.LEARNED])
def test_a_range_that_a_bad_batch_spoiled_is_not_deployed(range_):
    model = prepare_(nn.Sequential(nn.Linear(2, 1)), Recipe(4, 8, activation_range=range_))
    model(torch.full((3, 2), torch.nan))
    with pytest.raises(ValueError, match="ranges must be finite"):
        convert_(model)


def test_what_is_no_list_of_inputs_is_named():
    model = prepare_(nn.Sequential(nn.Linear(2, 1)), Recipe(4, 8))
    with pytest.raises(ValueError, match="several tensors, but is one"):
        calibrate_(model, torch.rand(3, 2))
    with pytest.raises(ValueError, match="got a tuple"):
        calibrate_(model, [(torch.rand(3, 2), torch.zeros(3))])
    with pytest.raises(ValueError, match="'heda' fits none"):
        prepare_(nn.Sequential(nn.Linear(2, 1)), Recipe(4, 8, exclude=("heda",)))
