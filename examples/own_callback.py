"""Your own callback: it logs every round, stops when nothing improves, and the run goes on later.

    python examples/own_callback.py

A callback is told of every round after it was recorded and saved. An exception ends the run, in a
callback as anywhere else; whoever trains in the same folder again resumes it.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

from fedhq.fl_core import (
    Callback,
    ClientRecord,
    DataSettings,
    Federation,
    FederationSettings,
    RoundRecord,
    RunInfo,
    Trainer,
    TrainingSettings,
    WallRecord,
    read_rounds,
)

ROUNDS = 24


class LogScalars(Callback):
    """Writes (tag, round, value) lines, as trackers of experiments take them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_start(self, run: RunInfo) -> None:
        """A run that is resumed goes on in the same file."""
        if not run.rounds_done:
            self._path.write_text("", encoding="utf-8")
        print(f"rounds {run.rounds_done + 1} to {run.rounds}, logged to {self._path.name}")

    def on_round(
        self, record: RoundRecord, clients: Sequence[ClientRecord], wall: WallRecord
    ) -> None:
        """Three curves; `RoundRecord` and `ClientRecord` hold many more."""
        trained = [client for client in clients if client.train_loss is not None]
        scalars = {
            "accuracy/deployed": record.deployed_accuracy,
            "seconds/simulated": record.simulated_seconds,
            "loss/train": sum(client.train_loss or 0 for client in trained) / max(len(trained), 1),
        }
        with self._path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows((tag, record.round, v) for tag, v in scalars.items())


class StoppedEarly(Exception):
    """Nothing has improved for a while."""


class StopEarly(Callback):
    """Ends the run when the best deployed accuracy is some rounds old."""

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._best, self._since = 0.0, 0

    def on_round(
        self, record: RoundRecord, clients: Sequence[ClientRecord], wall: WallRecord
    ) -> None:
        """Counts the rounds since the best one."""
        accuracy = record.deployed_accuracy or 0.0  # None where it was not evaluated
        if accuracy > self._best:
            self._best, self._since = accuracy, record.round
        if record.round - self._since >= self._patience:
            raise StoppedEarly(f"best accuracy {self._best:.3f} in round {self._since}")


def main(folder: Path) -> None:
    """Trains until nothing improves, then resumes without that rule."""
    settings = FederationSettings(
        menu=("ptq-w4a4", "qat-w4a4"),
        weight_bits=4,
        activation_bits=4,
        data=DataSettings("digits", num_test=500),
        training=TrainingSettings(rounds=ROUNDS, local_epochs=2, learning_rate=0.05, momentum=0.9),
    )
    federation = Federation.build(settings)
    log = LogScalars(folder / "scalars.csv")
    trainer = Trainer(federation, federation.allocator(), folder, callbacks=[log, StopEarly(2)])
    try:
        trainer.run()
    except StoppedEarly as reason:
        print(f"stopped after round {trainer.round_number}: {reason}")

    Trainer(federation, federation.allocator(), folder, callbacks=[log]).run()
    last = read_rounds(folder)[-1]
    print(f"after round {last.round}: deployed accuracy {last.deployed_accuracy:.3f}")


if __name__ == "__main__":
    main(Path("runs/own_callback"))
