"""A federation: model, data, clients, devices, and what every strategy costs on them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ..allocator.arrays import IntArray
from ..allocator.controller import HybridAllocator
from ..allocator.goal import Goal
from ..allocator.hardware import HardwareTables, StepProfile
from ..allocator.solution import Solver
from ..allocator.strategy import Method, Strategy, parse_menu
from ..models import build_model
from .costs import analyse_costs
from .data.clients import Clients, ListedClients
from .data.convert import as_clients, as_dataset
from .data.datasets import Dataset, split_dataset
from .data.held_out import hold_out
from .data.registry import load_dataset
from .data.spread import spread_dataset
from .deployment import ship
from .digests import digests_of
from .engine.local import check_trainable
from .fleet.fleet import Fleet
from .fleet.generate import make_fleet
from .profiling import find_profile, own_label, profile_kept_at
from .runtime import threads
from .seeds import Purpose, generator
from .settings import (
    FederationSettings,
    FleetSettings,
    ParticipationSettings,
    QuantizationSettings,
    ServerSettings,
    TrainingSettings,
)
from .weights import Weights, load_weights_

_ANY_FLEET = FleetSettings(kind="lognormal")
_TRAINING = TrainingSettings()
_PARTICIPATION = ParticipationSettings()
_SERVER = ServerSettings()
_QUANTIZATION = QuantizationSettings()
_NO_GOAL = Goal()


@dataclass(frozen=True, eq=False)
class Federation:
    """A federation ready to train; `of` makes one of your own parts, `build` one of settings.

    Args:
        model: The network with its first weights.
        clients: `(clients,)` the data that every client trains on.
        test: What accuracy is measured on.
        calibration: What the server keeps to calibrate ranges.
        fleet: Every client's device, and when it is online.
        menu: The strategies on offer.
        deployed: A QAT strategy with the bits of the deployment.
        hardware: What every strategy costs every client.
        client_tests: `(clients,)` what each client keeps to test on, if it keeps anything.
        training: How clients train.
        participation: Who takes part in a round.
        server: What the server does with updates.
        quantization: How weights and activations are quantized.
        seed: Root of all randomness.
    """

    model: nn.Module
    clients: Clients
    test: Dataset
    calibration: Dataset
    fleet: Fleet
    menu: tuple[Strategy, ...]
    deployed: Strategy
    hardware: HardwareTables
    client_tests: Clients | None
    training: TrainingSettings
    participation: ParticipationSettings
    server: ServerSettings
    quantization: QuantizationSettings
    seed: int

    @classmethod
    def of(
        cls,
        model: nn.Module,
        clients: Clients | Iterable[object],
        test: object,
        calibration: object,
        profile: StepProfile | Path | str,
        *,
        fleet: Fleet | FleetSettings = _ANY_FLEET,
        menu: Sequence[str | Strategy] = ("skip", "ptq-w2a2", "qat-w2a2"),
        weight_bits: int = 2,
        activation_bits: int = 2,
        client_tests: Clients | Iterable[object] | None = None,
        training: TrainingSettings = _TRAINING,
        participation: ParticipationSettings = _PARTICIPATION,
        server: ServerSettings = _SERVER,
        quantization: QuantizationSettings = _QUANTIZATION,
        seed: int = 0,
    ) -> Federation:
        """A federation of one's own model and data.

        Args:
            model: Any network from `(examples, ...)` inputs to `(examples, classes)` logits that
                keeps no running statistics.
            clients: `(clients,)` data: whatever `as_dataset` takes, or any `Clients`.
            test: Test data; whatever `as_dataset` takes.
            calibration: A few hundred examples that no client and no test has, to calibrate ranges.
            profile: Step times of the menu, or a file of them; where it does not exist yet they are
                measured on this machine (about ten seconds) and written there.
            fleet: Devices, or how to draw them; a log-normal population where not given.
            menu: The strategies on offer.
            weight_bits: Of the deployed weights.
            activation_bits: Of the deployed activations.
            client_tests: `(clients,)` what each client tests on, for the worst clients' accuracy.
            training: How clients train, and for how many rounds.
            participation: Who takes part in a round.
            server: What the server does with updates.
            quantization: How weights and activations are quantized.
            seed: Root of all randomness.

        Raises:
            ValueError: If the parts do not fit together.
        """
        strategies = parse_menu([str(s) for s in menu])
        check_trainable(model)
        own = clients if isinstance(clients, Clients) else ListedClients(as_clients(clients))
        if client_tests is not None and not isinstance(client_tests, Clients):
            client_tests = ListedClients(as_clients(client_tests, own.num_classes))
        if isinstance(fleet, FleetSettings):
            fleet = make_fleet(fleet, own.label_counts, generator(seed, Purpose.FLEET))
        if not isinstance(profile, StepProfile):
            label, examples = own_label(model, own.input_shape), own[int(own.num_examples.argmax())]
            with threads(training.threads):
                profile = profile_kept_at(
                    Path(profile), model, examples, strategies, training.batch_size, label
                )
        return cls(
            model=model,
            clients=own,
            test=as_dataset(test, own.num_classes),
            calibration=as_dataset(calibration, own.num_classes),
            fleet=fleet,
            menu=strategies,
            deployed=Strategy(Method.QAT, weight_bits, activation_bits, 4),
            hardware=analyse_costs(model, own, fleet, strategies, profile, training),
            client_tests=client_tests,
            training=training,
            participation=participation,
            server=server,
            quantization=quantization,
            seed=seed,
        )

    @classmethod
    def build(cls, settings: FederationSettings, profile: StepProfile | None = None) -> Federation:
        """A federation of registered parts; the same settings give the same federation.

        Args:
            settings: All that shapes it.
            profile: Step times of the menu, in place of those that the settings name.

        Raises:
            ValueError: If data, partition, menu, profile or trace do not fit together.
        """
        seed, kept = settings.seed, settings.data
        data = load_dataset(kept.name)
        rng = generator(seed, Purpose.SPLIT)
        split = split_dataset(data, kept.num_test, kept.num_calibration, rng, kept.split)
        clients: Clients = spread_dataset(
            split.train, settings.partition, generator(seed, Purpose.PARTITION)
        )
        tests: Clients | None = None
        if kept.client_test:
            draws = generator(seed, Purpose.CLIENT_TEST)
            clients, tests = hold_out(clients, kept.client_test, draws)
        return cls.of(
            build_model(settings.model, data.input_shape, data.num_classes, seed),
            clients,
            split.test,
            split.calibration,
            profile or find_profile(settings, data),
            fleet=settings.fleet,
            menu=settings.menu,
            weight_bits=settings.weight_bits,
            activation_bits=settings.activation_bits,
            client_tests=tests,
            training=settings.training,
            participation=settings.participation,
            server=settings.server,
            quantization=settings.quantization,
            seed=seed,
        )

    def __post_init__(self) -> None:
        for name, size in (
            ("fleet", len(self.fleet)),
            ("client_tests", len(self.client_tests or self.clients)),
        ):
            if size != len(self.clients):
                raise ValueError(
                    f"`{name}` must be as many as clients, but got {size} for {len(self.clients)}."
                )
        if not self.num_examples.any():
            raise ValueError(
                "`some client holds an example` must hold, but none does. Give clients data."
            )
        cohort = self.participation.cohort
        if cohort is not None and cohort > len(self.clients):
            raise ValueError(
                f"`participation.cohort <= clients` must hold, but got {cohort} > "
                f"{len(self.clients)}. Lower the cohort or add clients."
            )
        if self.participation.quorum > len(self.clients):
            raise ValueError(
                f"`participation.quorum <= clients` must hold, but got "
                f"{self.participation.quorum} > {len(self.clients)}. Lower the quorum."
            )
        named = max((max(s.clients, default=0) for s in self.participation.slowdowns), default=0)
        if named >= len(self.clients):
            raise ValueError(
                "`participation.slowdowns` must name clients in 0 ... "
                f"{len(self.clients) - 1}, but got {named}. Name clients that are there, or none "
                "for everybody."
            )

    @property
    def num_examples(self) -> IntArray:
        """`(clients,)` examples of every client."""
        return self.clients.num_examples

    @property
    def label_counts(self) -> IntArray:
        """`(clients, classes)` labels of each class; of texts, characters."""
        return self.clients.label_counts

    def allocator(
        self, solver: Solver | None = None, goal: Goal = _NO_GOAL, *, carry: float = 0.0
    ) -> HybridAllocator:
        """Who decides in this federation.

        Args:
            solver: How; where None by the default rule of `HybridAllocator`.
            goal: What rounds must keep.
            carry: Share of a round's coverage that counts in the next; see `HybridAllocator`.
        """
        return HybridAllocator(
            self.menu,
            self.hardware,
            self.deployed,
            solver,
            num_examples=self.num_examples,
            label_counts=self.label_counts,
            goal=goal,
            carry=carry,
        )

    def network(self, weights: Weights) -> nn.Module:
        """The float model with the server's weights, a copy: `model` keeps the first."""
        network = copy.deepcopy(self.model)
        load_weights_(network, weights)
        return network

    def ship(self, weights: Weights) -> nn.Module:
        """The model that is deployed: the server's weights, quantized as the settings say.

        Returns:
            A converted network in eval mode; `fedhq.models.export.export_onnx` writes it.
        """
        return ship(
            self.network(weights),
            self.deployed,
            self.quantization,
            self.calibration,
            self.training.batch_size,
        )

    def digests(self) -> dict[str, str]:
        """Short digests of all that settings name but do not hold: a resumed run needs the same."""
        return digests_of(
            self.model, self.clients, (self.test, self.calibration), self.fleet, self.hardware
        )
