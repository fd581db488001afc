"""Some clients send the opposite of what they learned: the median bears it, the mean does not.

    python examples/robust.py

A channel sees every payload on its way to the server and returns what arrives: the payload, others
in its place, or none. Everything is checked there; what is no update of this model and this round
is refused, with the reason in `clients.jsonl`. A well-formed lie is not: that is what robust
aggregation is for.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fedhq.fl_core import (
    DataSettings,
    Federation,
    FederationSettings,
    PartitionSettings,
    ServerSettings,
    Trainer,
    TrainingSettings,
    read_clients,
    read_rounds,
)
from fedhq.fl_core.weights import read_weights
from fedhq.fl_core.wire.codec import decode_update, encode_update

HOSTILE = (3, 8)
SETTINGS = FederationSettings(
    menu=("ptq-w4a4", "qat-w4a4"),
    weight_bits=4,
    activation_bits=4,
    data=DataSettings("digits", num_test=500),
    partition=PartitionSettings("iid", num_clients=10),
    training=TrainingSettings(rounds=12, local_epochs=2, learning_rate=0.1, momentum=0.9),
)


class HostileChannel:
    """Delivers five times the opposite of what some clients send.

    Args:
        federation: Whose updates they are.
    """

    def __init__(self, federation: Federation) -> None:
        self._template = read_weights(federation.model)  # names and shapes

    def __call__(self, round_number: int, client: int, payload: bytes) -> Sequence[bytes]:
        """What arrives of a payload."""
        if client not in HOSTILE:
            return [payload]
        honest = decode_update(payload, self._template)
        lie = encode_update(
            {name: np.float32(-5) * values for name, values in honest.tensors.items()},
            wire_bits=honest.wire_bits,
            round_number=round_number,
            client=client,
            num_examples=honest.num_examples,
            rng=np.random.default_rng(round_number),
        )
        return [b"not an update", lie]


def train(server: ServerSettings, folder: Path) -> None:
    """One run; prints how it ended."""
    federation = Federation.build(replace(SETTINGS, server=server))
    channel = HostileChannel(federation)
    Trainer(federation, federation.allocator(), folder, channel=channel).run()
    accuracy = read_rounds(folder)[-1].deployed_accuracy
    print(f"{folder.name}: deployed accuracy {accuracy:.3f}")


def main(folder: Path) -> None:
    """Three servers, the same two hostile clients of ten."""
    train(ServerSettings(), folder / "mean")
    train(ServerSettings(aggregation="median"), folder / "median")
    train(ServerSettings(outlier_factor=3.0), folder / "outliers-refused")
    refused = [r for r in read_clients(folder / "outliers-refused") if r.status == "refused"]
    print(
        f"refused: clients {sorted({r.client for r in refused})}, for example: {refused[0].reason}"
    )


if __name__ == "__main__":
    main(Path("runs/robust"))
