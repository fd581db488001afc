"""What the server decided, in the app's own training code: QAT inside a `with`, float again after.

The app's loop stays its own. `quant_mod` keeps the decision of the message at hand; whoever trains
asks for it here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from ....models import fake_quant_layers, prepare_, restore_, shadow_
from ...deployment import make_recipe
from ...engine.local import qat_bits
from ..messages.orders import RECORD, Decision, cannot
from .batches import Batch, parts_of

if TYPE_CHECKING:
    from flwr.app import Message

Model = TypeVar("Model", bound=nn.Module)
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Given:
    """The decision of the message at hand.

    Args:
        decision: What it is.
        was_asked: Whether the app asked for it.
    """

    decision: Decision
    was_asked: bool = False


GIVEN: ContextVar[Given | None] = ContextVar("given", default=None)
"""Set by `quant_mod` while the app handles a message."""


def decision_of(message: Message | Mapping[str, Any]) -> Decision | None:
    """What the server decided for the message at hand; None if nothing.

    Args:
        message: The message that the app is called with; in the legacy API the `config` of `fit`.
            It is looked at only if `quant_mod` is not around.

    Raises:
        ValueError: If it carries a decision that `quant_mod` never saw.

    Example:
        >>> decision_of({"local-epochs": 1}) is None
        True
    """
    given = GIVEN.get()
    if given is not None:
        given.was_asked = True
        return given.decision
    content = message if isinstance(message, Mapping) else message.content
    if RECORD in content:
        raise ValueError(
            "`quant_mod` must go around what trains, but a decision came without it, or is asked "
            "for in another thread. Write `ClientApp(mods=[quant_mod])`, and ask where the app is "
            "called."
        )
    return None


@contextmanager
def allocated(model: Model, message: Message | Mapping[str, Any]) -> Iterator[Model]:
    """Lets a model train as decided: inside, QAT quantizes weights and inputs of its layers.

    PTQ and fp32 train in float, and so does a message without a decision. The model stays the same
    object with the same parameters, so optimizers made before or inside work; it is a float model
    again after, with what it learned, also if something is raised inside.

    Args:
        model: A float model.
        message: As in `decision_of`.

    Yields:
        The same model.

    Raises:
        ValueError: If the model quantizes already, or `quant_mod` is missing.
        CannotError: If the decided bits cannot be given to this model.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 1))
        >>> with allocated(model, {}):                       # no decision: nothing changes
        ...     type(model[0]).__name__
        'Linear'
    """
    decision = decision_of(message)
    bits = None if decision is None else qat_bits(decision.strategy)
    if decision is None or bits is None:
        yield model
        return
    if any(True for _ in fake_quant_layers(model)):
        raise ValueError(
            "`model` must be a float model, but quantizes already. Do not nest `allocated`, and "
            "do not prepare the model."
        )
    try:
        prepare_(model, make_recipe(decision.quantization, *bits))
    except ValueError as error:
        raise cannot(f"{decision.strategy} does not fit this model: {error}") from error
    try:
        yield model
    finally:
        restore_(model)


def train_with_allocation(
    model: nn.Module,
    loader: Iterable[Batch],
    message: Message | Mapping[str, Any],
    *,
    optimizer: torch.optim.Optimizer,
    epochs: int = 1,
    loss: Loss = nn.functional.cross_entropy,
) -> float:
    """A training loop that does what was decided, for apps without one of their own.

    Args:
        model: A float model; it stays one, with what it learned.
        loader: Batches: `(inputs, labels)`, or columns by name as data sets of flwr-datasets have
            them (`img`, `image` or `x`; `label`, `fine_label`, `character` or `y`). They are moved
            to the model's device.
        message: As in `decision_of`.
        optimizer: Of the model's parameters.
        epochs: Passes over the loader.
        loss: From outputs and labels to a mean.

    Returns:
        Mean loss over the steps.

    Raises:
        ValueError: If there is no batch, or a batch is none; and as `allocated`.
        CannotError: As `allocated`.

    Example:
        >>> model = nn.Linear(4, 2)
        >>> batches = [(torch.ones(8, 4), torch.zeros(8, dtype=torch.int64))]
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> train_with_allocation(model, batches, {}, optimizer=sgd) > 0
        True
    """
    device = next(model.parameters()).device
    losses = []
    model.train()
    with allocated(model, message):
        if any(True for _ in fake_quant_layers(model)):
            shadow_(model)  # a weight is then quantized once a step; our loop has nothing against
        for _ in range(epochs):
            for batch in loader:
                inputs, labels = (part.to(device) for part in parts_of(batch))
                optimizer.zero_grad()
                value = loss(model(inputs), labels)
                value.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                losses.append(value.detach())
    if not losses:
        raise ValueError(f"`loader` must give a batch, but gave none in {epochs} epochs.")
    return float(torch.stack(losses).mean())
