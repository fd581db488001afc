"""Federated averaging as it is written without fedhq: plain PyTorch, another library's QAT.

It trains the very federation that a `Federation` is: its clients, batches in their order, learning
rates and SGD. Uploads are floats, and nothing is written to the disk.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..allocator.arrays import FloatArray
from ..allocator.strategy import Strategy
from ..fl_core.engine.local import batches
from ..fl_core.engine.work import Work
from ..fl_core.federation import Federation
from ..fl_core.schedule import learning_rate
from ..fl_core.weights import Weights
from ..models import accuracy
from ..models.pool import MaxPool2d
from .others import torch_ao_prepared, torchao_everywhere, torchao_model, why_missing

_FLOAT = Strategy.parse("fp32")
_TEST_BATCH = 500


class Library(StrEnum):
    """Whose fake quantization a plain loop trains with; the value is its name in tables."""

    FLOAT = "float"
    TORCH_AO = "torch.ao"
    """Fused modules, as in `get_default_qat_qconfig`."""
    TORCH_AO_APART = "torch.ao, not fused"
    """As in `default_qat_qconfig`: the same values by more operators."""
    TORCHAO = "torchao"

    @property
    def missing(self) -> str:
        """Why it cannot be run; empty if it can."""
        return why_missing("torchao") if self is Library.TORCHAO else ""

    def prepared(self, network: nn.Sequential, weight_bits: int, activation_bits: int) -> nn.Module:
        """A copy of a float network that trains with the library's fake quantization.

        Args:
            network: A sequence of layers.
            weight_bits: Of weights.
            activation_bits: Of inputs.

        Raises:
            ImportError: If torch no longer has torch.ao.
        """
        bits = weight_bits, activation_bits
        match self:
            case Library.FLOAT:
                return copy.deepcopy(network)
            case Library.TORCH_AO | Library.TORCH_AO_APART:
                return torch_ao_prepared(network, *bits, fused=self is Library.TORCH_AO)
            case Library.TORCHAO:
                convolves = any(isinstance(module, nn.Conv2d) for module in network.modules())
                return (torchao_everywhere if convolves else torchao_model)(network, *bits)


def with_torch_pools(network: nn.Sequential) -> nn.Sequential:
    """A copy whose pools are torch's own operator, as in a network written without fedhq.

    Example:
        >>> with_torch_pools(nn.Sequential(MaxPool2d(2)))
        Sequential(
          (0): MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)
        )
    """
    network = copy.deepcopy(network)
    for module in network.modules():
        if type(module) is MaxPool2d:
            module.__class__ = nn.MaxPool2d  # type: ignore[assignment]
    return network


class PlainLoop:
    """Trains a federation round by round, one client after the other in one resident model.

    A client starts from all that the server holds, the ranges of observers included, and the
    server averages all that clients send, by their examples.

    Args:
        federation: Data and settings; momentum SGD over whole epochs, all clients in every round.
        model: Trained from the weights that it has; with fake quantization or without.

    Raises:
        ValueError: If the federation asks for what the loop does not do.
    """

    def __init__(self, federation: Federation, model: nn.Module) -> None:
        _check_plain(federation)
        self._federation = federation
        self._model = model
        self._state = _copied(model.state_dict())

    def train_round(self, number: int) -> FloatArray:
        """Trains all clients and averages.

        Args:
            number: Of the round, from 1.

        Returns:
            `(clients,)` seconds that each one's training took; 0 of those without an example.
        """
        training = self._federation.training
        rate = learning_rate(training.learning_rate, number, training.rounds)
        states, sizes = [], []
        seconds = np.zeros(len(self._federation.clients))
        for client, size in enumerate(self._federation.num_examples.tolist()):
            if size:
                start = time.perf_counter()
                self._model.load_state_dict(self._state)
                self._train(number, client, rate)
                states.append(_copied(self._model.state_dict()))
                sizes.append(size)
                seconds[client] = time.perf_counter() - start
        self._state = _averaged(states, sizes)
        return seconds

    def _train(self, number: int, client: int, rate: float) -> None:
        federation, model = self._federation, self._model
        data, training = federation.clients[client], federation.training
        rng = Work(number, client, _FLOAT, rate).rng(federation.seed)
        optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=training.momentum)
        model.train()
        for rows in batches(len(data), training, rng):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(data.inputs[rows]), data.labels[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    def weights(self) -> Weights:
        """The server's float weights, by the names of the federation's network."""
        names = [name for name, _ in self._federation.model.named_parameters()]
        return {name: self._state[name].numpy() for name in names}

    def own_accuracy(self) -> float:
        """Of the server's model on the test examples, rounded by the library's own quantizers."""
        model = copy.deepcopy(self._model)
        model.load_state_dict(self._state)
        for module in model.modules():
            disable: Any = getattr(module, "disable_observer", None)
            if disable is not None:
                disable()
        test = self._federation.test
        return accuracy(model, test.inputs, test.labels, _TEST_BATCH)


def _check_plain(federation: Federation) -> None:
    training, participation = federation.training, federation.participation
    for rule, holds in (
        ("training.proximal = 0", training.proximal == 0),
        ("training.device = cpu", training.device == "cpu"),
        ("participation.cohort = None", participation.cohort is None),
        ("participation.dropout = 0", participation.dropout == 0),
    ):
        if not holds:
            raise ValueError(f"`{rule}` must hold for a plain loop, which has nothing else.")


def _copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: values.detach().clone() for name, values in state.items()}


def _averaged(states: Sequence[Mapping[str, Tensor]], sizes: Sequence[int]) -> dict[str, Tensor]:
    """The mean by examples; of whole numbers (zero points, switches) the first client's."""
    shares = torch.tensor(sizes, dtype=torch.float64)
    shares = (shares / shares.sum()).float()
    averaged = {}
    for name, values in states[0].items():
        if values.is_floating_point():
            stacked = torch.stack([state[name] for state in states])
            averaged[name] = torch.tensordot(shares, stacked, dims=1)
        else:
            averaged[name] = values
    return averaged
