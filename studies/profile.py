"""`fedhq profile`: measures the training step of every strategy of a menu on this machine.

With `--predict` only a float step is measured, here or elsewhere, and the others are predicted.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..allocator.hardware import StepProfile
from ..allocator.strategy import parse_menu
from ..fl_core.data.registry import load_dataset
from ..fl_core.predicting import predict_steps
from ..fl_core.profiling import measure_steps, model_label
from ..fl_core.runtime import set_up_process
from ..models import build_model
from .device import add_device_arguments, measured_device, read_reference


def add_arguments(profile: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    profile.add_argument("--data", default="mnist5k", help="data set (default: %(default)s)")
    profile.add_argument("--model", default="cnn", help="network (default: %(default)s)")
    profile.add_argument(
        "--menu",
        default="fp32,ptq-w2a2,qat-w2a2",
        help="strategies, separated by commas (default: %(default)s)",
    )
    profile.add_argument("--batch-size", type=int, default=32, help="(default: %(default)s)")
    profile.add_argument("--samples", type=int, default=30, help="(default: %(default)s)")
    profile.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    profile.add_argument(
        "--predict",
        nargs="?",
        type=float,
        const=math.nan,
        metavar="SECONDS",
        help="measure a float step only and predict the others; with SECONDS, those that a float "
        "step takes on some other machine, measure nothing",
    )
    profile.add_argument("--out", type=Path, required=True, help="JSON file to write")
    add_device_arguments(profile)
    profile.set_defaults(command=_profile, resumes=False)


def _profile(options: argparse.Namespace) -> None:
    if options.threads < 1:
        raise ValueError(f"--threads {options.threads}: must be at least 1.")
    out: Path = options.out
    if out.is_dir():
        raise ValueError(f"--out {out}: must be a file to write, but is a folder.")
    menu = [text.strip() for text in options.menu.split(",")]
    if options.predict is not None and options.device is not None:
        raise ValueError(
            f"--predict: not with --device {options.device}, whose one slowdown says as much. Take "
            "--menu fp32."
        )
    reference = read_reference(options, menu)
    out.parent.mkdir(parents=True, exist_ok=True)  # before it takes time to measure
    set_up_process(options.threads)
    asked = options.data, options.model, menu, options.batch_size, options.samples
    if options.predict is None:
        profile = measure_profile(*asked)
    else:
        told = None if math.isnan(options.predict) else options.predict
        profile = predict_profile(*asked, told)
    if reference is None:
        profile.save(out)
    else:
        measured_device(options, profile, reference).save(out)
    for strategy, seconds in zip(profile.strategies, profile.step_seconds, strict=True):
        print(f"{strategy!s:12} {seconds * 1e3:8.3f} ms a step")
    print(f"profile: {out}")


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


def predict_profile(
    data_name: str,
    model_name: str,
    menu: Sequence[str],
    batch_size: int,
    samples: int,
    float_seconds: float | None,
) -> StepProfile:
    """The step profile of a device of which only a float step is known; see `predict_steps`.

    Args:
        data_name: A registered data set.
        model_name: A registered network.
        menu: Strategies.
        batch_size: Examples per step.
        samples: Where the float step is measured here, how often.
        float_seconds: What it took elsewhere; None measures it here.

    Raises:
        ValueError: If a name is unknown, or a number is out of range.
    """
    data = load_dataset(data_name)
    model = build_model(model_name, data.input_shape, data.num_classes, 0)
    label = model_label(model_name, data.input_shape)
    if float_seconds is None:
        timed = measure_steps(model, data, ["fp32"], batch_size, label, samples)
    else:
        seconds = np.array([float_seconds])
        told = f"a float step of {float_seconds:g} s, as told"
        timed = StepProfile(label, batch_size, parse_menu(["fp32"]), seconds, np.zeros(1), told)
    return predict_steps(model, data, menu, batch_size, label, timed)
