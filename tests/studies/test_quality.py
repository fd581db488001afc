"""The accuracy study: who is compared on what, how differences are judged, one tiny run."""

import re
from dataclasses import replace
from math import isclose, sqrt

import pytest
import torch

from fedhq.models import build_model, fake_quant_layers
from fedhq.studies import quality
from fedhq.studies.quality import QUICK, Plan, best_rate, report
from fedhq.studies.quality_arms import Arm, deployed, prepared
from fedhq.studies.quality_tables import Difference, Result
from fedhq.studies.quality_trials import Cell, Trial, run_trial

CELL = Cell("digits", "mlp", bits=4, epochs=2, num_train=160)
OURS = [arm for arm in Arm if arm.is_ours]


def result(arm, *accuracies, cell=CELL):
    return Result(cell, arm, 0.01, accuracies)


def test_a_difference_is_of_paired_seeds_and_holds_down_to_one_standard_error():
    difference = Difference.of(result(Arm.DYNAMIC, 0.8, 0.9), result(Arm.BREVITAS, 0.7, 0.94))
    assert isclose(difference.mean, 0.03)
    assert isclose(difference.error, abs(0.1 + 0.04) / 2)
    assert Difference(-0.01, 0.01).holds
    assert not Difference(-0.0101, 0.01).holds
    assert isclose(
        Difference.of(result(Arm.DYNAMIC, 0.1, 0.2, 0.6), result(Arm.BREVITAS, 0, 0, 0)).error,
        sqrt((0.2**2 + 0.1**2 + 0.3**2) / 2 / 3),
    )


def test_each_arm_gets_its_own_best_rate_and_of_equals_the_smallest():
    def trials(arm, **accuracies):
        return {
            Trial(CELL, arm, float(rate[1:]) / 100, seed, True): value
            for rate, values in accuracies.items()
            for seed, value in enumerate(values)
        }

    found = trials(Arm.DYNAMIC, r3=(0.9, 0.7), r1=(0.7, 0.9), r2=(0.5, 0.95))
    found |= trials(Arm.BREVITAS, r1=(0.1,), r2=(0.3,))
    assert best_rate(found, CELL, Arm.DYNAMIC) == 0.01
    assert best_rate(found, CELL, Arm.BREVITAS) == 0.02


def test_torchao_is_compared_on_linear_layers_only():
    cnn, mlp = (build_model(name, (1, 8, 8), 10, 0) for name in ("cnn", "mlp"))
    assert [arm for arm in Arm if not arm.takes(cnn)] == [Arm.TORCHAO]
    assert all(arm.takes(mlp) for arm in Arm)


@pytest.mark.parametrize("arm", [arm for arm in Arm if not arm.missing])
def test_an_arm_deploys_weights_on_few_values_and_logits_apart_from_the_batch(arm):
    network = build_model("mlp", (1, 8, 8), 10, 0)
    x = torch.rand(64, 1, 8, 8)
    model = prepared(arm, network, bits=2, epoch_steps=1)
    for _ in range(3):
        model.train()(x)
    shipped = deployed(model, [x])
    with torch.no_grad():
        assert torch.allclose(shipped(x)[:5], shipped(x[:5]), atol=1e-5)
        assert (shipped(x) - network(x)).norm() > 0.01 * network(x).norm()
    for _, layer in fake_quant_layers(shipped):
        assert all(len(row.unique()) <= 4 for row in layer.weight)


def test_a_trial_is_the_same_again_and_learns():
    trial = Trial(CELL, Arm.DYNAMIC, 0.01, 0, validates=False)
    assert run_trial(trial) == run_trial(trial) > 0.3


def test_the_report_judges_every_row_and_says_what_is_missing(monkeypatch):
    monkeypatch.setattr("fedhq.studies.quality_arms.why_missing", lambda name: f"left out: {name}")
    cell = Cell("digits", "cnn", bits=2, epochs=2, num_train=160)
    results = [*(result(arm, 0.9, 0.8) for arm in OURS), result(Arm.BREVITAS, 0.9, 0.8)]
    results += [result(Arm.TORCHAO, 0.1, 0.2)]
    results += [result(arm, 0.5, 0.52, cell=cell) for arm in OURS]
    results += [result(Arm.BREVITAS, 0.9, 0.9, cell=cell)]
    text = report(Plan((CELL, cell), (0.01,), 1, 2), results)
    assert "torchao: left out: torchao." in text
    assert f"{Arm.LEARNED}: not worse than Brevitas less one standard error in 1 of 2" in text
    assert f"{Arm.LEARNED}: not worse than torchao less one standard error in 1 of 1" in text
    rows = [line for line in text.splitlines() if line.startswith("| digits")]
    assert len(rows) == 3 + len(results)
    assert rows[0].count("+0.0 ± 0.0") == 3
    assert rows[2].count("-39.0 ± 1.0 **worse**") == 3


@pytest.mark.slow
def test_the_quick_study_writes_a_row_for_each_arm(tmp_path, monkeypatch):
    cells = tuple(replace(cell, epochs=1, num_train=160) for cell in QUICK.cells)
    monkeypatch.setattr(quality, "QUICK", replace(QUICK, cells=cells, rates=(0.01,)))
    out = tmp_path / "new" / "quality.md"
    quality.main(["--quick", "--workers", "1", "--out", str(out)])
    text = out.read_text("utf-8")
    for cell in cells:
        for arm in quality.arms_of(cell):
            assert re.search(rf"\| {cell} \| {re.escape(arm)} \| [\d.]+ \| [\d.]+ ±", text)
