"""`fedhq export`: writes what a finished run ships as ONNX, and checks it in onnxruntime."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from torch import nn

from ..allocator import FedHQError
from ..fl_core.federation import Federation
from ..fl_core.profiling import model_label
from ..fl_core.records.checkpoint import load_checkpoint
from ..fl_core.records.recorder import read_rounds
from ..fl_core.runtime import set_up_process
from ..fl_core.schedule import is_finished
from ..fl_core.trainer import CHECKPOINT_FILE
from ..models import accuracy
from .config import parse_run
from .plan_files import check_target

HELP = "write the model that a finished run ships as ONNX, and check it in onnxruntime"
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_EVALUATION_BATCH = 500
# Exact for up to 10 000 predictions. The order of sums moves a few in 64 000 (charlm at W8A8).
_MAX_DIFFERENCE = 1e-4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds all options of the command, and what it does."""
    parser.description = (
        "Quantizes the server's weights of a finished run at the run's bits, calibrated as in its "
        "evaluation, and writes ONNX with integer weights and quantize / dequantize nodes: int4 up "
        "to 4 bits, int8 above."
    )
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="folder of `fedhq run`, or of one run of a comparison"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE.onnx", help="file to write (default: RUN/model.onnx)"
    )
    parser.add_argument(
        "--check",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="run the file in onnxruntime on the test set; its accuracy must equal the "
        "fake-quantized model's, but for one prediction in 10 000 (default: check)",
    )
    parser.set_defaults(command=run, resumes=False)


@dataclass(frozen=True, eq=False)
class DeployedRun:
    """What a finished run ships.

    Args:
        federation: What it was trained in; test data among it.
        name: Of the network.
        model: Converted, at the run's bits.
    """

    federation: Federation
    name: str
    model: nn.Module


def load_deployed(folder: Path) -> DeployedRun:
    """Deploys the server's last weights as the run's own evaluation did.

    Args:
        folder: Of a finished run.

    Raises:
        CheckpointError: If its checkpoint is damaged.
        ValueError: If it holds no checkpoint or one of a run that is not finished, or data or step
            profile are no longer there.
    """
    path = folder / CHECKPOINT_FILE
    if not path.is_file():
        raise ValueError(
            f"{folder} must be the folder of a run, with its {CHECKPOINT_FILE}, but there is none. "
            "Of a comparison, name one run: FOLDER/scenario/arm/seed-0."
        )
    saved = load_checkpoint(path)
    # The trainer adds digests of its inputs, which are no settings.
    table = {k: v for k, v in saved.config.items() if k not in ("inputs", "digests")}
    settings = parse_run(table).federation
    training, rounds = settings.training, read_rounds(folder)[: saved.round_number]
    last = rounds[-1].deployed_accuracy if rounds else None
    if not is_finished(training, saved.round_number, last):
        raise ValueError(
            f"{folder} must hold a finished run, but {saved.round_number} of {training.rounds} "
            "rounds are done. Finish it with the `fedhq run` that began it."
        )
    federation = Federation.build(settings)
    return DeployedRun(federation, settings.model, federation.ship(saved.weights))


def run(options: argparse.Namespace) -> None:
    """Runs the command.

    Raises:
        FedHQError: If a package is missing, the checkpoint is damaged, or accuracies differ.
        ValueError: If the folder holds no finished run, or the file cannot be named so.
        OSError: If the file cannot be written.
    """
    _check_packages()
    from ..models.export import export_onnx

    out: Path = options.run / "model.onnx" if options.out is None else options.out
    check_target("--out", out, (".onnx",), [])
    set_up_process()
    deployed = load_deployed(options.run)
    data, bits = deployed.federation.test, deployed.federation.deployed
    out.parent.mkdir(parents=True, exist_ok=True)
    export_onnx(deployed.model, data.inputs, out)
    print(
        f"{model_label(deployed.name, data.input_shape)}: weights of {bits.weight_bits} bits, "
        f"activations of {bits.activation_bits} bits, {out.stat().st_size:,} bytes"
    )
    if options.check:
        _check(deployed, out)
    print(f"model: {out}")


def _check_packages() -> None:
    missing = [package for package in _PACKAGES if find_spec(package) is None]
    if missing:
        raise FedHQError(
            f"fedhq export needs {', '.join(missing)}, which is not installed: "
            "pip install 'fedhq[export]'"
        )


def _check(deployed: DeployedRun, path: Path) -> None:
    """Measures both; an error if they differ."""
    from ..models.export import OnnxModel

    data = deployed.federation.test
    ours, theirs = (
        accuracy(model, data.inputs, data.labels, _EVALUATION_BATCH)
        for model in (deployed.model, OnnxModel(path))
    )
    print(
        f"accuracy on {len(data)} test examples: {ours:.4f} fake-quantized, "
        f"{theirs:.4f} in onnxruntime"
    )
    if abs(ours - theirs) > _MAX_DIFFERENCE:
        raise FedHQError(
            "the accuracy in onnxruntime must equal the fake-quantized one, but it is "
            f"{theirs:.6g} instead of {ours:.6g}. Compare the predictions before you ship {path}; "
            "--no-check leaves the comparison out."
        )
