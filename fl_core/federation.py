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
from .data.datasets import Dataset, Split, load_dataset, split_dataset
from .data.partitions import DirichletPartitioner, IidPartitioner, count_labels
from .engine.local import local_steps
from .fleet.fleet import Fleet
from .fleet.generate import make_fleet
from .seeds import Purpose, generator
from .settings import FederationSettings, PartitionSettings
from .wire.codec import encoded_bytes


@dataclass(frozen=True, eq=False)
class Federation:
    """A federation ready to train.

    Args:
        settings: What it was built from.
        menu: The strategies on offer.
        deployed: A QAT strategy with the bits of the deployment.
        clients: `(clients,)` the data of every client.
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
    clients: tuple[Dataset, ...]
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
        split = split_dataset(data, settings.data.num_test, settings.data.num_calibration, rng)
        labels = split.train.labels.numpy()
        parts = _partitioner(settings.partition).partition(
            labels, generator(seed, Purpose.PARTITION)
        )
        clients = tuple(split.train.take(part) for part in parts)
        counts = count_labels(labels, parts, data.num_classes)
        fleet = make_fleet(settings.fleet, counts, generator(seed, Purpose.FLEET))
        model = build_model(settings.model, data.input_shape, data.num_classes, seed)
        shapes = [tuple(p.shape) for p in model.parameters()]
        steps = _local_steps(clients, settings)
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
        return np.array([len(data) for data in self.clients], dtype=np.int64)


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


def _partitioner(settings: PartitionSettings) -> DirichletPartitioner | IidPartitioner:
    if settings.kind == "iid":
        return IidPartitioner(settings.num_clients)
    return DirichletPartitioner(settings.num_clients, settings.alpha, settings.min_partition_size)


def _local_steps(clients: tuple[Dataset, ...], settings: FederationSettings) -> IntArray:
    steps = [local_steps(len(data), settings.training) for data in clients]
    return np.array(steps, dtype=np.int64)
