"""The task in fedhq: settings, a rule that gives every client float training, a trainer."""

# mypy: ignore-errors
# isort: off
from fedhq.studies.simulators import task

import sys
import tempfile
from pathlib import Path

from fedhq.allocator import Strategy, Uniform
from fedhq.fl_core import Callback, Federation, FederationSettings, Trainer, TrainingSettings
from fedhq.fl_core.weights import load_weights_


def settings(rounds: int, precision: str = "float32") -> FederationSettings:
    """MNIST-5k over 20 clients of a Dirichlet split, a small CNN, two local epochs."""
    training = TrainingSettings(
        rounds=rounds, local_epochs=2, evaluate_every=rounds, precision=precision
    )
    return FederationSettings(menu=("fp32",), training=training)


class Report(Callback):
    """Says when a round begins and ends."""

    def on_start(self, run):
        """Before the first."""
        task.begin()

    def on_round(self, record, clients, wall):
        """After each."""
        task.report(record.round)


def main(workers, precision):
    """Trains as many rounds as the task has."""
    federation = Federation.build(settings(task.load().rounds, precision))
    allocator = federation.allocator(Uniform(Strategy.parse("fp32")))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            federation, allocator, Path(folder), workers=workers, callbacks=[Report()]
        )
        load_weights_(federation.model, trainer.run())
    task.finish(federation.model)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
