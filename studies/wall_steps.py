"""Training steps of networks with skip connections and attention, against other libraries'."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from ..allocator.strategy import Strategy
from ..fl_core.data.datasets import Dataset
from ..fl_core.engine.local import LocalTrainer
from ..fl_core.settings import TrainingSettings
from ..fl_core.weights import read_weights
from ..models import build_model
from .benchmark import table
from .others import torch_ao_model, torchao_everywhere, why_missing
from .timing import FULL, QUICK, Bench, Candidate, Role

_BATCH, _STEPS, _CLASSES, _RATE = 32, 5, 10, 0.01
_BITS = 4, 4
_NETWORKS = (("resnet8", 28), ("vit", 8))


@dataclass(frozen=True, eq=False)
class _Steps:
    """A few steps of a plain loop."""

    model: nn.Module
    inputs: Tensor
    labels: Tensor

    def __call__(self) -> None:
        optimizer = torch.optim.SGD(self.model.parameters(), lr=_RATE)
        for rows in torch.split(torch.arange(len(self.labels)), _BATCH):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(self.model(self.inputs[rows]), self.labels[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def step_table(is_quick: bool) -> str:
    """Markdown: a step of each network by fedhq, in float, and by the others' plain loops.

    Args:
        is_quick: Fewer samples, of the smaller network alone.
    """
    bench = Bench(QUICK if is_quick else FULL)
    rows = []
    for name, side in _NETWORKS[-1:] if is_quick else _NETWORKS:
        case = f"training step, {name} at {side}x{side}, W4A4, batch {_BATCH}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.ao says that it is deprecated
            rows += bench.compare(case, _candidates(name, side))
    return table(rows)


def _candidates(name: str, side: int) -> list[Candidate]:
    network = build_model(name, (1, side, side), _CLASSES, 0)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand((_BATCH * _STEPS, 1, side, side), generator=generator)
    labels = torch.randint(0, _CLASSES, (len(inputs),), generator=generator)
    data = Dataset(inputs, labels, _CLASSES)
    trainer, weights = LocalTrainer(network, TrainingSettings()), read_weights(network)

    def ours(strategy: str) -> Callable[[], object]:
        chosen = Strategy.parse(strategy)
        return lambda: trainer.train(weights, data, chosen, _RATE, np.random.default_rng(0))

    plain = partial(_Steps, inputs=inputs, labels=labels)
    candidates = [
        Candidate("fedhq, qat-w4a4", Role.OURS, ours("qat-w4a4"), parts=_STEPS),
        Candidate("fedhq, float", Role.LIMIT, ours("fp32"), parts=_STEPS),
        Candidate("plain loop, float", Role.ALTERNATIVE, plain(copy.deepcopy(network)),
                  parts=_STEPS),
        Candidate("plain loop, torch.ao", Role.ALTERNATIVE, plain(torch_ao_model(network, *_BITS)),
                  parts=_STEPS),
    ]  # fmt: skip
    rival, missing = "plain loop, torchao", why_missing("torchao")
    if missing:
        return [*candidates, Candidate(rival, Role.ALTERNATIVE, int, missing=missing)]
    run = plain(torchao_everywhere(network, *_BITS))
    return [*candidates, Candidate(rival, Role.ALTERNATIVE, run, parts=_STEPS)]
