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
from ..runtime import seed_torch
from ..settings import QuantizationSettings, TrainingSettings
from ..weights import Weights, load_weights_
from .precision import use_bfloat16_
from .sgd import Sgd

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
        settings: Epochs or steps, batch size, momentum, precision, device.
        quantization: How QAT quantizes.

    Raises:
        ValueError: If the model keeps running statistics, or the device is not there.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: TrainingSettings,
        quantization: QuantizationSettings = _DEFAULT_QUANTIZATION,
    ) -> None:
        check_trainable(model)
        self._template = model
        self._settings = settings
        self._quantization = quantization
        self._device = find_device(settings.device)
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
            rng: Orders the examples, and seeds what the network draws (dropout).

        Raises:
            ValueError: If the client holds no example.
        """
        if not len(data):
            raise ValueError("`a client that trains holds an example` must hold: let it skip.")
        model = self._model(strategy)
        parameters = dict(model.named_parameters())
        load_weights_(model, weights)
        model.train()
        settings = self._settings
        sgd = Sgd(list(parameters.values()), learning_rate, settings.momentum, settings.proximal)
        inputs, labels = data.inputs.to(self._device), data.labels.to(self._device)
        losses = []
        with torch.random.fork_rng(devices=[]):
            # A child's, so that the order of the batches is the same with and without dropout.
            seed_torch(int(rng.spawn(1)[0].integers(2**63)), self._device)
            for rows in batches(len(data), settings, rng):
                at = rows.to(self._device)
                # `index_select` takes half the time of indexing.
                output = model(inputs.index_select(0, at))
                loss = nn.functional.cross_entropy(output.float(), labels.index_select(0, at))
                loss.backward()  # type: ignore[no-untyped-call]
                sgd.step()
                losses.append(loss.detach())
        update = {
            name: parameter.detach().cpu().numpy() - weights[name]
            for name, parameter in parameters.items()
        }
        return LocalResult(update, float(torch.stack(losses).mean()))

    def _model(self, strategy: Strategy) -> nn.Module:
        bits = qat_bits(strategy)
        if bits not in self._resident:
            model = make_resident(self._template, bits, self._settings, self._quantization)
            self._resident[bits] = model if bits is None else shadow_(model)
        return self._resident[bits]


def qat_bits(strategy: Strategy) -> tuple[int, int] | None:
    """Weights' and activations' bits of QAT; None of what trains in float.

    Example:
        >>> qat_bits(Strategy.parse("qat-w2a4")), qat_bits(Strategy.parse("ptq-w2a4"))
        ((2, 4), None)
    """
    if strategy.method is not Method.QAT:
        return None
    return strategy.weight_bits, strategy.activation_bits


def make_resident(
    template: nn.Module,
    bits: tuple[int, int] | None,
    settings: TrainingSettings,
    quantization: QuantizationSettings,
) -> nn.Module:
    """A copy of a network that trains at the bits of `qat_bits`, in the precision of the settings.

    Args:
        template: The network.
        bits: Weights' and activations'; None trains in float.
        settings: Its device and precision count.
        quantization: How QAT quantizes.
    """
    device = find_device(settings.device)
    model = copy.deepcopy(template)
    if bits is not None:
        prepare_(model, make_recipe(quantization, *bits))
    if settings.precision == "bfloat16":
        use_bfloat16_(model, device)
    return model.to(device)


def local_steps(num_examples: int, settings: TrainingSettings) -> int:
    """Training steps of a client in a round.

    Example:
        >>> local_steps(100, TrainingSettings(local_epochs=2, batch_size=32))
        8
    """
    if settings.local_steps is not None:
        return settings.local_steps
    return settings.local_epochs * -(-num_examples // settings.batch_size)


def batches(
    num_examples: int, settings: TrainingSettings, rng: np.random.Generator
) -> Iterator[torch.Tensor]:
    """The rows of every step's examples: shuffled passes over the data, the last cut where it ends.

    Example:
        >>> settings = TrainingSettings(local_steps=3, batch_size=2)
        >>> [len(rows) for rows in batches(3, settings, np.random.default_rng(0))]
        [2, 1, 2]
    """
    left = local_steps(num_examples, settings)
    while left > 0:
        order = torch.from_numpy(rng.permutation(num_examples))
        rows = torch.split(order, settings.batch_size)[:left]
        yield from rows
        left -= len(rows)


def check_trainable(model: nn.Module) -> None:
    """Refuses a network that keeps more than its parameters: only these are sent and averaged.

    Raises:
        ValueError: If a layer keeps running statistics, or there is nothing to train.
    """
    for name, module in model.named_modules():
        if getattr(module, "running_mean", None) is not None:
            raise ValueError(
                f"`the model keeps no running statistics` must hold, but {name!r} is a "
                f"{type(module).__name__} that does: clients send parameters only. Take GroupNorm, "
                "or `track_running_stats=False`."
            )
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError("`the model has parameters to train` must hold, but it has none.")


def find_device(name: str) -> torch.device:
    """The device of a name.

    Raises:
        ValueError: If it is not there.
    """
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f'`training.device` = {name!r} must be there, but torch finds no CUDA. Take "cpu".'
        )
    return device
