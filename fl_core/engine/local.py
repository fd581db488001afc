"""What a client does in a round: train from the received weights, and hand back the change."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ...allocator.strategy import Method, Strategy
from ...models import prepare_, shadow_
from ..data.datasets import Dataset
from ..deployment import make_recipe
from ..settings import QuantizationSettings, TrainingSettings
from ..weights import Weights, load_weights_

_DEFAULT_QUANTIZATION = QuantizationSettings()


@dataclass(frozen=True, eq=False)
class LocalResult:
    """What training gave.

    Args:
        update: Change of every parameter.
        train_loss: Mean loss over the round's steps.
    """

    update: Weights
    train_loss: float


class LocalTrainer:
    """Trains one client after the other in resident models: one in float, one per QAT bits.

    Args:
        model: The network; its weights are replaced before every training.
        settings: Epochs, batch size, momentum.
        quantization: How QAT quantizes.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: TrainingSettings,
        quantization: QuantizationSettings = _DEFAULT_QUANTIZATION,
    ) -> None:
        self._template = model
        self._settings = settings
        self._quantization = quantization
        self._resident: dict[tuple[int, int] | None, nn.Module] = {}

    def train(
        self,
        weights: Weights,
        data: Dataset,
        strategy: Strategy,
        learning_rate: float,
        rng: np.random.Generator,
    ) -> LocalResult:
        """Trains from the given weights; ptq trains like fp32.

        Args:
            weights: The server's float weights.
            data: The client's examples.
            strategy: What to do; not skip.
            learning_rate: Of this round.
            rng: Orders the examples.
        """
        model = self._model(strategy)
        parameters = dict(model.named_parameters())
        load_weights_(model, weights)
        model.train()
        optimizer = torch.optim.SGD(
            parameters.values(), lr=learning_rate, momentum=self._settings.momentum
        )
        losses = []
        for inputs, labels in self._batches(data, rng):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.detach())
        update = {
            name: parameter.detach().numpy() - weights[name]
            for name, parameter in parameters.items()
        }
        return LocalResult(update, float(torch.stack(losses).mean()))

    def _batches(
        self, data: Dataset, rng: np.random.Generator
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for _ in range(self._settings.local_epochs):
            order = torch.from_numpy(rng.permutation(len(data)))
            for rows in torch.split(order, self._settings.batch_size):
                yield data.inputs[rows], data.labels[rows]

    def _model(self, strategy: Strategy) -> nn.Module:
        bits = None
        if strategy.method is Method.QAT:
            bits = (strategy.weight_bits, strategy.activation_bits)
        if bits not in self._resident:
            model = copy.deepcopy(self._template)
            if bits is not None:
                shadow_(prepare_(model, make_recipe(self._quantization, *bits)))
            self._resident[bits] = model
        return self._resident[bits]
