"""`fedhq profile`: measures the training step of every strategy of a menu on this machine."""

from __future__ import annotations

from collections.abc import Sequence

from ..allocator.hardware import StepProfile
from ..fl_core.data.registry import load_dataset
from ..fl_core.profiling import measure_steps, model_label
from ..models import build_model


def measure_profile(
    data_name: str, model_name: str, menu: Sequence[str], batch_size: int, samples: int
) -> StepProfile:
    """Times the steps of a registered network on a registered data set; see `measure_steps`.

    Raises:
        ValueError: If a name is unknown, or a number is below 1.
    """
    data = load_dataset(data_name)
    model = build_model(model_name, data.input_shape, data.num_classes, 0)
    label = model_label(model_name, data.input_shape)
    return measure_steps(model, data, menu, batch_size, label, samples)
