"""Wall-clock against other libraries: the loops train the same, and figures are read rightly."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from fedhq.allocator import Strategy, Uniform
from fedhq.fl_core.evaluation import evaluate
from fedhq.fl_core.federation import Federation
from fedhq.fl_core.records.recorder import read_rounds
from fedhq.fl_core.settings import TrainingSettings
from fedhq.fl_core.trainer import Trainer
from fedhq.models import Fit, Recipe, build_model, prepare_
from fedhq.studies import bench_wall
from fedhq.studies.bench_wall import OURS, QUICK, Cell, contestants_of
from fedhq.studies.others import torch_ao_prepared, torchao_everywhere, why_missing
from fedhq.studies.plain_loop import Library, PlainLoop, with_torch_pools
from fedhq.studies.wall_runs import Contestant, Course, fedhq_laps, plain_laps, run_in_turn
from fedhq.studies.wall_tables import goal_lines, mean_reach, over, reach, targets_table

FP32 = Strategy.parse("fp32")
CELL = Cell("digits", "cnn", 2, 2, 300, (0.1, 0.99))


@pytest.fixture(scope="module")
def federation():
    return Federation.build(CELL.settings(0))


def in_float(tmp_path):
    """What fedhq's trainer makes of all clients in float."""
    federation = Federation.build(replace(CELL.settings(0), menu=("fp32",)))
    return Trainer(federation, federation.allocator(Uniform(FP32)), tmp_path).run()


@pytest.mark.parametrize("pools", [True, False])
def test_a_plain_loop_trains_the_very_federation(federation, tmp_path, pools):
    ours = in_float(tmp_path)
    network = with_torch_pools(federation.model) if pools else federation.model
    loop = PlainLoop(federation, Library.FLOAT.prepared(network, 2, 2))
    for number in (1, 2):
        seconds = loop.train_round(number)
    moved = 0.0
    for name, weight in loop.weights().items():
        start = federation.model.get_parameter(name).detach().numpy()
        moved = max(moved, float(np.abs(weight - start).max()))
        np.testing.assert_allclose(weight, ours[name], atol=2e-5)
    assert moved > 0.01
    assert ((seconds > 0) == (federation.num_examples > 0)).all()
    assert loop.own_accuracy() == evaluate(federation, loop.weights()).in_float


def test_what_a_plain_loop_does_not_do_is_refused(federation):
    other = replace(federation, training=TrainingSettings(proximal=0.1))
    with pytest.raises(ValueError, match=r"`training.proximal = 0` must hold"):
        PlainLoop(other, federation.model)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_other_libraries_round_what_fedhq_rounds_to_as_many_values():
    network = with_torch_pools(build_model("cnn", (1, 8, 8), 10, 0))
    x = torch.rand(64, 1, 8, 8)
    ours = prepare_(
        build_model("cnn", (1, 8, 8), 10, 0),
        Recipe(8, 8, weight_fit=Fit.ABSMAX, activation_fit=Fit.ABSMAX),
    )(x)
    exact = network(x)
    for library in Library:
        if library.missing or library is Library.FLOAT:
            continue
        other = library.prepared(network, 8, 8)
        off, error = (other(x) - ours).norm(), (ours - exact).norm()
        assert 0 < off < 3 * error < 0.1 * exact.norm(), library


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("fused", [True, False])
def test_torch_ao_quantizes_weights_and_inputs_of_every_layer_and_nothing_else(fused):
    model = torch_ao_prepared(build_model("cnn", (1, 8, 8), 10, 0), 2, 2, fused=fused)
    inputs, weights = {}, {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_pre_hook(
                lambda _, given, name=name: inputs.__setitem__(name, given[0])
            )
            module.weight_fake_quant.register_forward_hook(
                lambda _, given, out, name=name: weights.__setitem__(name, out)
            )
        elif isinstance(module, nn.GroupNorm | nn.ReLU):
            assert not hasattr(module, "activation_post_process")
    model(torch.rand(32, 1, 8, 8))
    assert set(inputs) == set(weights) == {"conv1", "conv2", "linear"}
    assert all(len(values.unique()) <= 4 for values in inputs.values())
    for values in weights.values():
        assert max(len(channel.unique()) for channel in values.flatten(1)) <= 4


@pytest.mark.skipif(bool(why_missing("torchao")), reason="torchao is not installed")
def test_torchao_rounds_each_example_by_itself():
    model = torchao_everywhere(build_model("cnn", (1, 8, 8), 10, 0), 2, 2)
    x = torch.rand(4, 1, 8, 8)
    rounded = model.conv1.input_quantizer(x)
    assert all(len(example.unique()) <= 4 for example in rounded)
    assert torch.equal(model.conv1.input_quantizer(x[:1]), rounded[:1])


def test_trainers_take_turns_and_train_as_they_would_alone(federation, tmp_path):
    contestants = [
        Contestant("a", fedhq_laps, 2),
        Contestant("b", lambda f: plain_laps(f, Library.FLOAT), 1),
    ]
    a, b = run_in_turn(contestants, {0: federation})
    Trainer(federation, federation.allocator(), tmp_path).run()
    alone = [record.deployed_accuracy for record in read_rounds(tmp_path)]
    assert a.deployed[0].tolist() == alone
    assert b.seconds.shape == (1, 1)
    assert 0 < a.qat_share[0] <= 1
    assert b.qat_share[0] == 0
    assert (a.seconds > 0).all()


def test_a_trainer_that_fails_says_so(federation):
    broken = replace(federation, menu=federation.menu[:1])
    with pytest.raises(ValueError, match="menu"):
        list(fedhq_laps(broken))


def course(name, seconds, accuracies, is_rival=False):
    accuracies = np.repeat(accuracies, 3, axis=1)  # each holds for as long as a target asks
    return Course(
        Contestant(name, fedhq_laps, accuracies.shape[1], is_rival),
        np.full(accuracies.shape, seconds),
        np.full(len(accuracies), seconds),
        accuracies,
        accuracies,
        np.ones(len(accuracies)),
    )


def test_a_rival_that_never_gets_there_is_a_bound_and_not_dropped():
    ours = course(OURS, 1.0, [[0.2, 0.8, 0.8], [0.4, 0.8, 0.8]])
    rival = course("rival", 3.0, [[0.2, 0.6, 0.7], [0.2, 0.6, 0.9]], is_rival=True)
    assert mean_reach(ours, 0.8).seconds == 6
    assert str(over(mean_reach(rival, 0.85), mean_reach(ours, 0.5))) == ">=5.40"
    assert str(over(mean_reach(ours, 0.8), mean_reach(rival, 0.8))) == "0.22"
    assert str(over(reach(1.0, np.zeros(2), 1), reach(1.0, np.zeros(2), 1))) == "neither"
    text = targets_table([ours, rival], (0.8, 0.85), OURS)
    assert "| rival | 27 s (9) | 4.50 [4.00 ... >=4.50] | > 27 s (9) | neither [<=3.00" in text
    goals = goal_lines({"cell": ((0.3, 0.8), [ours, rival])}, OURS)
    assert "| rival | at least 2.47 x | 12 x | 8.25 x | 4.5 x | **reached** |" in goals
    with_both_missed = goal_lines({"cell": ((0.3, 0.8, 0.85), [ours, rival])}, OURS)
    assert "| 4.5 x | 0 x | **reached in the median only** |" in with_both_missed
    better = course("rival", 3.0, [[0.2, 0.6, 0.9]] * 2, is_rival=True)
    goals = goal_lines({"cell": ((0.8, 0.85), [ours, better])}, OURS)
    assert "| rival | at least 2.47 x | 4 x | 2 x | 0 x | **missed** |" in goals


def test_one_lucky_round_is_no_target_reached():
    assert not reach(1.0, np.array([0.3, 0.6, 0.85, 0.6, 0.6]), 0.75).is_there


@pytest.mark.slow
def test_the_quick_study_reports_every_contestant_and_effect(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_wall, "step_table", lambda quick: "STEPS")
    monkeypatch.setattr(bench_wall, "set_up_process", lambda threads: None)
    out = tmp_path / "wall.md"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bench_wall.main(["--quick", "--seeds", "1", "--out", str(out)])
    text = out.read_text("utf-8")
    for contestant in contestants_of(QUICK[0]):
        assert f"| {contestant.name} |" in text
    assert text.rstrip().endswith("STEPS")
    effects = ("max pooling", "fake quantization", "allocation", "clients stacked", "all |")
    assert all(f"| {effect}" in text for effect in effects)
    with pytest.raises(SystemExit):
        bench_wall.main(["--seeds", "0"])
