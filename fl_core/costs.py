"""What every strategy of a menu costs every client of a federation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..allocator.hardware import HardwareTables, StepProfile, analyse_hardware
from ..allocator.strategy import Strategy
from .data.clients import Clients
from .engine.local import local_steps
from .fleet.fleet import Fleet
from .settings import TrainingSettings
from .wire.codec import encoded_bytes


def analyse_costs(
    model: nn.Module,
    clients: Clients,
    fleet: Fleet,
    menu: Sequence[Strategy],
    profile: StepProfile,
    training: TrainingSettings,
) -> HardwareTables:
    """Seconds, bytes, joules and memory, of the steps that a client takes and the wire's bytes.

    Args:
        model: The network.
        clients: `(clients,)` how many examples each has.
        fleet: Their devices.
        menu: The strategies.
        profile: Step times of at least these.
        training: Batches, epochs, the downlink.
    """
    shapes = [tuple(p.shape) for p in model.parameters()]
    return analyse_hardware(
        fleet.devices,
        [local_steps(int(n), training) for n in clients.num_examples],
        profile.select(menu),
        [0 if s.is_skip else encoded_bytes(shapes, s.wire_bits) for s in menu],
        encoded_bytes(shapes, training.downlink_bits),
    )
