"""The task in fedhq: settings, a rule that gives every client float training, a trainer."""

# isort: off
from fedhq.studies.simulators import task

import tempfile
from pathlib import Path

from fedhq.fl_core.runtime import set_up_process
from fedhq.fl_core.settings import DeviceClass, FederationSettings, FleetSettings, TrainingSettings
from fedhq.fl_core.weights import load_weights_
from fedhq.studies.arms import make_trainer
from fedhq.studies.config import AllocationSettings, RunConfig


def settings(rounds: int) -> FederationSettings:
    """MNIST-5k over 20 clients of a Dirichlet split, a small CNN, two local epochs."""
    devices = DeviceClass("any", 1, 1, 1e6, 1e6)
    training = TrainingSettings(
        rounds=rounds, local_epochs=2, evaluate_every=rounds, checkpoint_every=rounds
    )
    return FederationSettings(FleetSettings((devices,)), menu=("fp32",), training=training)


def main() -> None:
    """Trains as many rounds as the task has."""
    set_up_process()
    allocation = AllocationSettings(solver="uniform", strategy="fp32")
    config = RunConfig(settings(task.load().rounds), allocation)
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(config, Path(folder))
        task.begin()
        weights = trainer.run(lambda record: task.report(record.round))
    model = task.build_model()
    load_weights_(model, weights)
    task.finish(model)


if __name__ == "__main__":
    main()
