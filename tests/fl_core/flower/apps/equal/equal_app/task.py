"""The federation and its decisions, for both runtimes."""

from fedhq.allocator.solvers.rules import Random
from fedhq.fl_core import (
    DataSettings,
    Federation,
    FederationSettings,
    PartitionSettings,
    TrainingSettings,
)

ROUNDS = 2
CLIENTS = 3
MENU = ("ptq-w2a2", "qat-w2a2")
DEPLOYED = "qat-w2a2"
DECIDES = Random("qat-w2a2", "ptq-w2a2", share=0.5, seed=1)
SEED = 7


def build() -> Federation:
    """Digits, three clients, two rounds."""
    return Federation.build(
        FederationSettings(
            menu=MENU,
            seed=SEED,
            data=DataSettings("digits", num_test=500),
            partition=PartitionSettings(num_clients=CLIENTS),
            training=TrainingSettings(rounds=ROUNDS, local_epochs=1, learning_rate=0.05),
        )
    )
