"""Everything of a federation that settings and a seed determine: data, clients, devices, tables."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from ..allocator.arrays import IntArray
from ..allocator.hardware import DeviceProfile, HardwareTables, StepProfile, analyse_hardware
from ..allocator.strategy import Method, Strategy, parse_menu
from ..models import build_model
from .data.clients import Clients
from .data.datasets import Split, split_dataset
from .data.held_out import hold_out
from .data.registry import load_dataset
from .data.spread import spread_dataset
from .engine.local import local_steps
from .fleet.fleet import Fleet
from .fleet.generate import make_fleet
from .seeds import Purpose, generator
from .settings import FederationSettings, TrainingSettings
from .wire.codec import encoded_bytes


@dataclass(frozen=True, eq=False)
class Federation:
    """A federation ready to train.

    Args:
        settings: What it was built from.
        menu: The strategies on offer.
        deployed: A QAT strategy with the bits of the deployment.
        clients: `(clients,)` the data that every client trains on.
        client_tests: `(clients,)` what each client keeps to test on, where it keeps anything.
        split: Training, calibration and test data.
        label_counts: `(clients, classes)` labels of each class: one an example, or of texts one a
            character.
        fleet: Every client's device, and when it is online.
        hardware: What every strategy costs every client.
        model: The network with its first weights.
        local_steps: `(clients,)` training steps in a round.
        downlink_bytes: Bytes of the model that every taking part client receives.
    """

    settings: FederationSettings
    menu: tuple[Strategy, ...]
    deployed: Strategy
    clients: Clients
    client_tests: Clients | None
    split: Split
    label_counts: IntArray
    fleet: Fleet
    hardware: HardwareTables
    model: torch.nn.Module
    local_steps: IntArray
    downlink_bytes: int

    @classmethod
    def build(cls, settings: FederationSettings) -> Federation:
        """Builds a federation; the same settings give the same federation.

        Raises:
            ValueError: If data, partition, menu, profile or trace do not fit together.
        """
        seed = settings.seed
        menu = parse_menu(settings.menu)
        data = load_dataset(settings.data.name)
        rng = generator(seed, Purpose.SPLIT)
        kept = settings.data
        split = split_dataset(data, kept.num_test, kept.num_calibration, rng, kept.split)
        clients, client_tests = _spread(split, settings)
        counts = clients.label_counts
        fleet = make_fleet(settings.fleet, counts, generator(seed, Purpose.FLEET))
        model = build_model(settings.model, data.input_shape, data.num_classes, seed)
        shapes = [tuple(p.shape) for p in model.parameters()]
        steps = _local_steps(clients.num_examples, settings.training)
        downlink_bytes = encoded_bytes(shapes, settings.training.downlink_bits)
        hardware = analyse_hardware(
            fleet.devices,
            steps,
            load_profile(settings, data.input_shape).select(menu),
            [0 if s.is_skip else encoded_bytes(shapes, s.wire_bits) for s in menu],
            downlink_bytes,
        )
        return cls(
            settings=settings,
            menu=menu,
            deployed=Strategy(Method.QAT, settings.weight_bits, settings.activation_bits, 4),
            clients=clients,
            client_tests=client_tests,
            split=split,
            label_counts=counts,
            fleet=fleet,
            hardware=hardware,
            model=model,
            local_steps=steps,
            downlink_bytes=downlink_bytes,
        )

    @property
    def devices(self) -> tuple[DeviceProfile, ...]:
        """`(clients,)` devices."""
        return self.fleet.devices

    @property
    def num_examples(self) -> IntArray:
        """`(clients,)` examples of every client."""
        return self.clients.num_examples


def load_profile(settings: FederationSettings, input_shape: tuple[int, ...]) -> StepProfile:
    """The step profile that the settings name.

    Args:
        settings: Model, batch size, and where the profile lies.
        input_shape: Sizes of one example.

    Raises:
        ValueError: If there is none, or it was measured on another model or batch size.
    """
    batch_size = settings.training.batch_size
    mend = (
        f"Run `fedhq profile --data {settings.data.name} --model {settings.model} "
        f'--batch-size {batch_size} --out FILE` and give `profile = "FILE"`.'
    )
    if settings.profile == "shipped":
        profile = shipped_profile(f"{settings.data.name}-{settings.model}.json", mend)
    else:
        profile = StepProfile.load(Path(settings.profile))
    wanted = (model_label(settings.model, input_shape), batch_size)
    if (profile.model, profile.batch_size) != wanted:
        raise ValueError(
            f"`profile` must be measured on {wanted[0]!r} at batch size {wanted[1]}, but "
            f"{settings.profile!r} is of {profile.model!r} at {profile.batch_size}. {mend}"
        )
    return profile


def shipped_profile(name: str, mend: str) -> StepProfile:
    """A step profile that ships, or an error that ends in what to do without it.

    Raises:
        ValueError: If none of that name ships.
    """
    shipped = resources.files(__package__).joinpath("profiles").joinpath(name)
    if not shipped.is_file():
        raise ValueError(f'`profile = "shipped"` needs {name} to ship, but it does not. {mend}')
    with resources.as_file(shipped) as path:
        return StepProfile.load(path)


def model_label(model: str, input_shape: tuple[int, ...]) -> str:
    """How a step profile names a model on inputs of a shape.

    Example:
        >>> model_label("cnn", (1, 28, 28))
        'cnn 1x28x28'
    """
    return f"{model} {'x'.join(map(str, input_shape))}"


def _spread(split: Split, settings: FederationSettings) -> tuple[Clients, Clients | None]:
    """What each client trains on, and what it keeps to test on."""
    rng = generator(settings.seed, Purpose.PARTITION)
    clients = spread_dataset(split.train, settings.partition, rng)
    cohort = settings.training.cohort
    if cohort is not None and cohort > len(clients):
        raise ValueError(
            f"`training.cohort <= clients` must hold, but got {cohort} > {len(clients)} natural "
            "clients. Lower the cohort."
        )
    if settings.data.client_test == 0:
        return clients, None
    rng = generator(settings.seed, Purpose.CLIENT_TEST)
    return hold_out(clients, settings.data.client_test, rng)


def _local_steps(num_examples: IntArray, training: TrainingSettings) -> IntArray:
    return np.array([local_steps(int(n), training) for n in num_examples], dtype=np.int64)
