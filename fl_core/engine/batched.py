"""Trains clients of one kind together: their weights stacked, a step of all in one call.

A small network's step is mostly the price of calling its operators; stacked clients share it.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from ...allocator.strategy import Strategy
from ..data.datasets import Dataset
from ..runtime import seed_torch
from ..settings import QuantizationSettings, TrainingSettings
from ..weights import Weights, load_weights_
from .local import (
    LocalResult,
    batches,
    check_trainable,
    find_device,
    make_resident,
    qat_bits,
)

_FEWEST = 4
"""Fewer clients than these step faster one after the other."""


class StackedTrainer:
    """Trains several clients at once, each on its own batches in its own order.

    Updates are those of `LocalTrainer` but for the last bits, and for what the network draws
    (dropout): that is seeded by the first client. Examples that do not count fill batches up to the
    longest, unless the network's output for an example depends on the others of its batch. That is
    so with batch normalisation and with QAT, whose ranges are those of the batch: then only batches
    of equal size are stacked, and others are taken one by one.

    How much faster than one after the other (one Zen 4 core, batches of 32, 16 clients of 128
    examples, 4 / 8 / 16 together): 8 x 8 mlp 1.2 / 2.0 / 3.0 in float and .9 / 1.6 / 2.5 by QAT,
    8 x 8 cnn 1.2 / 1.7 / 2.1 and .9 / 1.4 / 2.0, 28 x 28 mlp 1.0 / 1.3 / 1.5, but 28 x 28 cnn only
    .6 / .6 / .6: there the work itself counts, and grouped convolutions are slow. With 40 to 160
    examples each QAT gains 1.1 to 1.3 times by 16. On a GPU nothing was run.

    Args:
        model: The network.
        settings: Epochs or steps, batch size, momentum, precision, device.
        quantization: How QAT quantizes.
        sample: Any client's data, to try the network on; the CPU does that, whatever the device.

    Raises:
        ValueError: If the network cannot be stacked, keeps running statistics, or the device is not
            there.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: TrainingSettings,
        quantization: QuantizationSettings,
        sample: Dataset,
    ) -> None:
        check_trainable(model)
        self._template = model
        self._settings = settings
        self._quantization = quantization
        self._device = find_device(settings.device)
        self._mixes_examples = _try_out(model, sample, settings.clients_together)
        self._resident: dict[tuple[int, int] | None, nn.Module] = {}

    def train(
        self,
        weights: Weights,
        clients: Sequence[Dataset],
        strategy: Strategy,
        learning_rate: float,
        rngs: Sequence[np.random.Generator],
    ) -> list[LocalResult]:
        """Trains every client from the given weights; see `LocalTrainer.train`.

        Args:
            weights: The server's float weights.
            clients: `(clients,)` their examples.
            strategy: What all do; not skip.
            learning_rate: Of this round.
            rngs: `(clients,)` each orders its client's examples.

        Returns:
            `(clients,)` results.

        Raises:
            ValueError: If a client holds no example.
        """
        model = self._model(strategy)
        load_weights_(model, weights)
        stack = _Stack(model, len(clients), learning_rate, self._settings)
        inputs = torch.cat([data.inputs for data in clients]).to(self._device)
        labels = torch.cat([data.labels for data in clients]).to(self._device)
        with torch.random.fork_rng(devices=[]):
            seed_torch(int(rngs[0].spawn(1)[0].integers(2**63)), self._device)
            orders = _orders(clients, self._settings, rngs)
            losses = torch.zeros(len(clients), device=self._device)
            pads = not self._mixes_examples and qat_bits(strategy) is None
            for step in _steps(orders, pads):
                rows, shares = step.rows.to(self._device), step.shares.to(self._device)
                parameters = stack.of(step.members)
                outputs = _run(model, stack.names, parameters, inputs[rows])
                loss = _losses(outputs, labels[rows], shares)
                stack.move(
                    step.members,
                    torch.autograd.grad(loss.sum(), parameters, materialize_grads=True),
                )
                losses[step.members] += loss.detach()
        losses /= torch.tensor([len(order) for order in orders], device=self._device)
        return [
            LocalResult(stack.update(client, weights), float(losses[client]))
            for client in range(len(clients))
        ]

    def _model(self, strategy: Strategy) -> nn.Module:
        bits = qat_bits(strategy)
        if bits not in self._resident:
            # No shadows: they stand outside of the graph, where vmap does not see them.
            model = make_resident(self._template, bits, self._settings, self._quantization)
            self._resident[bits] = model.train()
        return self._resident[bits]


class _Stack:
    """The clients' weights, `(clients, ...)` each, and how SGD moves them.

    The arithmetic is that of `Sgd`. Velocities begin at zero, which the first gradient is added to.
    """

    def __init__(
        self, model: nn.Module, num_clients: int, learning_rate: float, settings: TrainingSettings
    ) -> None:
        trained = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
        self.names = list(trained)
        self._num_clients = num_clients
        self._learning_rate = learning_rate
        self._momentum, self._proximal = settings.momentum, settings.proximal
        self._start = list(trained.values())
        self._weights = [p.expand(num_clients, *p.shape).clone() for p in self._start]
        self._velocity = [torch.zeros_like(w) for w in self._weights] if self._momentum else []

    def of(self, members: list[int]) -> list[Tensor]:
        """Leaves to take gradients of, `(members, ...)`."""
        return [w.detach().requires_grad_() for w in self._pick(self._weights, members)]

    @torch.no_grad()
    def move(self, members: list[int], gradients: Sequence[Tensor]) -> None:
        """A step of those clients; the others stay where they are."""
        weights, grads = self._pick(self._weights, members), list(gradients)
        if self._proximal:
            pull = torch._foreach_sub(weights, self._start)
            torch._foreach_add_(grads, pull, alpha=self._proximal)
        if self._momentum:
            velocity = self._pick(self._velocity, members)
            torch._foreach_mul_(velocity, self._momentum)
            torch._foreach_add_(velocity, grads)
            self._put(self._velocity, members, velocity)
            grads = velocity
        torch._foreach_add_(weights, grads, alpha=-self._learning_rate)
        self._put(self._weights, members, weights)

    def update(self, client: int, weights: Weights) -> Weights:
        """The change of every parameter of a client; of those that are not trained zero."""
        update = {name: np.zeros_like(values) for name, values in weights.items()}
        for name, stacked in zip(self.names, self._weights, strict=True):
            update[name] = stacked[client].cpu().numpy() - weights[name]
        return update

    def _pick(self, stacked: list[Tensor], members: list[int]) -> list[Tensor]:
        """Those clients' rows: copies, or all as they are."""
        everybody = len(members) == self._num_clients
        return stacked if everybody else [values[members] for values in stacked]

    def _put(self, stacked: list[Tensor], members: list[int], values: list[Tensor]) -> None:
        if values is not stacked:
            for whole, part in zip(stacked, values, strict=True):
                whole[members] = part


@dataclass(frozen=True, eq=False)
class _Step:
    """A step of some clients.

    Args:
        members: The clients, ascending.
        rows: `(members, batch)` which of all clients' examples.
        shares: `(members, batch)` each example's weight in its client's loss; 0 where one fills up.
    """

    members: list[int]
    rows: Tensor
    shares: Tensor


def _orders(
    clients: Sequence[Dataset], settings: TrainingSettings, rngs: Sequence[np.random.Generator]
) -> list[list[Tensor]]:
    """Every client's batches, as rows of all clients' examples one after the other."""
    orders, first = [], 0
    for data, rng in zip(clients, rngs, strict=True):
        if not len(data):
            raise ValueError("`a client that trains holds an example` must hold: let it skip.")
        orders.append([rows + first for rows in batches(len(data), settings, rng)])
        first += len(data)
    return orders


def _steps(orders: Sequence[Sequence[Tensor]], pads: bool) -> Iterator[_Step]:
    """All steps of all clients; whoever has no batch left takes no part any more."""
    for number in range(max(len(order) for order in orders)):
        batch = {k: order[number] for k, order in enumerate(orders) if number < len(order)}
        for members in _split({k: len(rows) for k, rows in batch.items()}, pads):
            longest = max(len(batch[k]) for k in members)
            # Filled up with an example of the client's own: what is NaN harms nobody else.
            rows = torch.stack([batch[k][:1].expand(longest) for k in members]).clone()
            shares = torch.zeros(len(members), longest)
            for at, k in enumerate(members):
                rows[at, : len(batch[k])] = batch[k]
                shares[at, : len(batch[k])] = 1 / len(batch[k])
            yield _Step(members, rows, shares)


def _split(sizes: dict[int, int], pads: bool) -> Iterator[list[int]]:
    """Who steps together: all, or those with batches of one size; few step one by one."""
    alike: dict[int, list[int]] = {}
    for client, size in sizes.items():
        alike.setdefault(0 if pads else size, []).append(client)
    for members in alike.values():
        yield from [members] if len(members) >= _FEWEST else ([client] for client in members)


def _run(
    model: nn.Module, names: Sequence[str], parameters: Sequence[Tensor], inputs: Tensor
) -> Tensor:
    """From `(clients, examples, ...)` inputs to `(clients, examples, classes, ...)` outputs."""

    def run(parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        outputs: Tensor = functional_call(
            model, dict(zip(names, parameters, strict=True)), (inputs,)
        )
        return outputs

    if len(inputs) == 1:
        return run([p[0] for p in parameters], inputs[0])[None]
    # The gradient is taken outside: half the price of taking it inside.
    outputs: Tensor = torch.vmap(run, randomness="different")(list(parameters), inputs)
    return outputs


def _losses(outputs: Tensor, labels: Tensor, shares: Tensor) -> Tensor:
    """`(clients,)` the weighted mean of cross entropies."""
    each = nn.functional.cross_entropy(
        outputs.flatten(0, 1).float(), labels.flatten(0, 1), reduction="none"
    )
    return (each.view(*shares.shape, -1).mean(2) * shares).sum(1)


def _try_out(model: nn.Module, sample: Dataset, clients_together: int) -> bool:
    """Whether an example's output depends on the others of its batch; refuses what cannot stack."""
    model = copy.deepcopy(model).cpu().train()
    one = sample.inputs[:1].cpu()
    pairs = torch.stack([torch.cat([one, torch.full_like(one, other)]) for other in (0, 1)])
    trained = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        first = model(pairs[0])[0]
        torch.manual_seed(0)
        second = model(pairs[1])[0]
        parameters = [p.expand(2, *p.shape) for p in trained.values()]
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message="There is a performance drop")
                _run(model, list(trained), parameters, pairs)
        except Exception as error:  # whatever the user's network does that vmap does not take
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ValueError(
                "`torch.func.vmap stacks the network` must hold for `training.clients_together` > "
                f"1, but got {clients_together}, and {reason} Take 1."
            ) from error
    return not torch.allclose(first, second, rtol=1e-4, atol=1e-6)
