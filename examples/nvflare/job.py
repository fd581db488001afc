"""The FLARE job, run in its simulator: two rounds of two clients, one of which cannot do QAT.

    pip install "fedhq[train]" nvflare
    python examples/nvflare/job.py

`job.export_job(FOLDER)` instead writes the job for a real FLARE federation.
"""

from pathlib import Path

import numpy as np
from hybrid import HybridController, QuantizeUpdate, ReadUpdate
from nvflare import FedJob, FilterType
from nvflare.client.config import TransferType
from nvflare.job_config.script_runner import FrameworkType, ScriptRunner
from train import own_data, seen

HERE = Path(__file__).parent


def make_job(model_file: Path) -> FedJob:
    """Controller and filters at their places."""
    job = FedJob("fedhq", min_clients=2)
    controller = HybridController(
        menu=["skip", "ptq-w4a8", "qat-w4a8"],
        deployed="qat-w4a8",
        shapes={"weights": [8, 2], "bias": [8]},
        num_rounds=2,
        deadline_seconds=60,
        model_file=str(model_file.absolute()),
    )
    job.to_server(controller)
    job.to_server(ReadUpdate(), filter_type=FilterType.TASK_RESULT, tasks=["train"])
    script = ScriptRunner(
        str(HERE / "train.py"),
        framework=FrameworkType.NUMPY,
        params_transfer_type=TransferType.DIFF,  # the script sends weights, FLARE the update
    )
    job.to_clients(script, tasks=["train"])
    job.to_clients(QuantizeUpdate(), filter_type=FilterType.TASK_RESULT, tasks=["train"])
    return job


def main() -> None:
    """Trains, and says how right the model is as it will be deployed."""
    model_file = Path("model.npz")
    make_job(model_file).simulator_run("nvflare_workspace", n_clients=2, log_config="concise")
    model = np.load(model_file)
    points, labels = map(np.concatenate, zip(*[own_data(f"site-{k}") for k in (1, 2)], strict=True))
    logits = points @ seen(model["weights"], bits=4).T + model["bias"]
    print(f"deployed accuracy {(logits.argmax(axis=1) == labels).mean():.3f}")


if __name__ == "__main__":
    main()
