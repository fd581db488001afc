import numpy as np
import pytest
import torch
from torch import nn

from fedhq.models import accuracy, build_model, evaluating, per_class_accuracy, predict

LOGITS = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [0.0, 2.0, 1.0], [5.0, 0.0, 0.0]])
LABELS = torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_accuracy_does_not_depend_on_the_batch_size(batch_size):
    assert accuracy(nn.Identity(), LOGITS, LABELS, batch_size) == 0.75
    assert predict(nn.Identity(), LOGITS, batch_size).tolist() == [0, 1, 1, 0]


def test_per_class_accuracy_is_nan_for_absent_classes():
    shares = per_class_accuracy(nn.Identity(), LOGITS, LABELS, 2, num_classes=4)
    np.testing.assert_array_equal(shares, [1.0, 1.0, 0.0, np.nan])


def test_per_class_accuracy_averages_to_accuracy():
    inputs = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(60) % 10
    model = build_model("cnn", (1, 8, 8), 10, seed=0)
    shares = per_class_accuracy(model, inputs, labels, 32, num_classes=10)
    assert shares.mean() == pytest.approx(accuracy(model, inputs, labels, 32))


def test_every_module_gets_its_mode_back_even_after_an_error():
    model = nn.Sequential(nn.Dropout(), nn.Dropout())
    model[1].eval()
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    with pytest.raises(ZeroDivisionError), evaluating(model):
        _ = 1 / 0
    assert [module.training for module in model.modules()] == [True, True, False]


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="`batch_size >= 1`"):
        predict(nn.Identity(), LOGITS, 0)
    with pytest.raises(ValueError, match="at least one example"):
        predict(nn.Identity(), LOGITS[:0], 1)
    with pytest.raises(ValueError, match=r"`labels` must have shape \(4,\)"):
        accuracy(nn.Identity(), LOGITS, LABELS[:2], 1)
    with pytest.raises(ValueError, match="`0 <= labels < 2`"):
        per_class_accuracy(nn.Identity(), LOGITS, LABELS, 1, num_classes=2)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_every_character_of_a_text_counts(batch_size):
    logits = torch.zeros(2, 3, 4)
    logits[0, 1] = 1.0  # says class 1 at all four places, of the other text class 2
    logits[1, 2] = 1.0
    labels = torch.tensor([[1, 1, 1, 0], [2, 0, 0, 0]])
    assert predict(nn.Identity(), logits, batch_size).tolist() == [[1] * 4, [2] * 4]
    assert accuracy(nn.Identity(), logits, labels, batch_size) == 0.5
    shares = per_class_accuracy(nn.Identity(), logits, labels, batch_size, num_classes=4)
    np.testing.assert_array_equal(shares, [0.0, 1.0, 1.0, np.nan])
    with pytest.raises(ValueError, match=r"`labels` must have shape \(2, 4\)"):
        accuracy(nn.Identity(), logits, labels[:, :3], batch_size)
