"""Your own devices, which come and go, and a server that does not wait for ever.

    python examples/own_fleet.py

`devices.csv` has a measured device in every row: `fedhq profile --device NAME` measures one, and
`fedhq fleet show devices.csv` shows them all. Every round asks 1.3 clients for each answer that it
wants and closes with the last one wanted, after 6 simulated seconds at the latest. What comes
later still counts, less, for two rounds.
"""

from collections import Counter
from pathlib import Path

from fedhq.allocator import Goal
from fedhq.fl_core import (
    DataSettings,
    Federation,
    FederationSettings,
    FleetSettings,
    ParticipationSettings,
    PartitionSettings,
    ServerSettings,
    Trainer,
    TrainingSettings,
    read_clients,
    read_rounds,
)

SETTINGS = FederationSettings(
    menu=("skip", "ptq-w4a4", "qat-w4a4"),
    weight_bits=4,
    activation_bits=4,
    data=DataSettings("digits", num_test=500),
    partition=PartitionSettings("dirichlet", num_clients=20, alpha=0.5),
    # 20 clients of 10 devices: each serves two. With availability=AvailabilitySettings(...) clients
    # come and go at random, whatever the column `online` says.
    fleet=FleetSettings(kind="trace", path=str(Path(__file__).with_name("devices.csv"))),
    training=TrainingSettings(rounds=20, local_epochs=2, learning_rate=0.05, momentum=0.9),
    participation=ParticipationSettings(
        cohort=8, sampling="availability", over_selection=1.3, deadline_seconds=6.0, jitter=0.2
    ),
    server=ServerSettings(max_staleness=2),
)


def main(folder: Path) -> None:
    """Trains in two processes; the results are the same bytes with one or with ten."""
    federation = Federation.build(SETTINGS)
    # Rounds close after 6 s: plan for 5, since times vary by a fifth.
    planner = federation.allocator(goal=Goal(deadline_seconds=5.0))
    Trainer(federation, planner, folder, workers=2).run()

    rounds, visits = read_rounds(folder), read_clients(folder)
    last = rounds[-1]
    print(f"deployed accuracy {last.deployed_accuracy:.3f} at {last.simulated_seconds:.0f} s")
    print(f"updates used: {sum(r.used for r in rounds)} of {sum(r.selected for r in rounds)} asked")
    print(f"what became of them: {dict(Counter(visit.status for visit in visits))}")
    for device in sorted({d.device_class for d in federation.fleet.devices}):
        did = Counter(
            visit.strategy
            for visit in visits
            if federation.fleet.devices[visit.client].device_class == device
        )
        print(f"{device}: {dict(did)}")


if __name__ == "__main__":  # workers import this file, so nothing else may start here
    main(Path("runs/own_fleet"))
