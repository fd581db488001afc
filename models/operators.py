"""Lists the operators of a network's training step, by watching torch run one.

Every operator that torch dispatches is seen, of the forward and the backward pass and whatever the
network is made of; no layer needs a rule of its own. Multiply-adds are by torch's own formulas
(`torch.utils.flop_counter`), bytes those of the tensors taken and given.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from ..allocator.operators import ModelOperators, Operator, OperatorKind, StepOperators
from .pool import MaxPool2d
from .prepare import prepare_, shadow_
from .recipe import Recipe

_BYTES_PER_PARAMETER = 12  # weight, gradient, momentum
_ANY_BITS = Recipe(4, 4)
_Key = tuple[str, OperatorKind, bool]


def list_operators(
    model: nn.Module, inputs: Tensor, labels: Tensor, label: str, recipe: Recipe = _ANY_BITS
) -> ModelOperators:
    """Lists what a step of a network computes, in float and quantization-aware.

    Two steps of each are run on copies of the network.

    Args:
        model: A float network, on the CPU.
        inputs: `(examples, ...)` one batch; its values do not matter.
        labels: Its labels.
        label: What a step profile calls the model.
        recipe: How it quantizes; its bits do not matter.

    Returns:
        The lists, of the batch's size.

    Raises:
        ValueError: If the network cannot be quantized, or the batch is empty.

    References:
        Jacob et al., arXiv 1712.05877 (what quantization-aware training adds).

    Example:
        >>> model = nn.Linear(8, 4)
        >>> step = list_operators(model, torch.zeros(2, 8), torch.zeros(2, dtype=torch.int64), "l")
        >>> step.in_float.multiply_adds, step.quantizing.quantized_elements  # 2 x 8 and 4 x 8
        (128, 48)
    """
    if not len(inputs):
        raise ValueError("`len(inputs) >= 1` must hold, but the batch is empty.")
    steps = []
    for quantizes in (False, True):
        copied = copy.deepcopy(model)
        if quantizes:
            prepare_(copied, recipe)
        memory = kept_bytes(copied, inputs, labels)
        if quantizes:
            shadow_(copied)  # as clients do
        steps.append(StepOperators(_watch_step(copied, inputs, labels), memory))
    return ModelOperators(label, len(inputs), *steps)


def kept_bytes(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Memory of a training step: what it keeps for its backward pass, and the parameters' own.

    A copy takes the step, in train mode as clients do: neither the model nor torch's random numbers
    change.

    Args:
        model: A float or prepared network.
        inputs: `(examples, ...)` one batch.
        labels: Its labels.
    """
    copied = copy.deepcopy(model).train()
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    # Clones: a slice would be counted with all of the data that it is cut from.
    inputs, labels = inputs.clone(), labels.clone()
    hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
    with torch.random.fork_rng(devices=[]), hooks:
        loss = nn.functional.cross_entropy(copied(inputs), labels)
    del loss
    parameters = sum(p.numel() for p in model.parameters())
    return float(sum(kept.values()) + _BYTES_PER_PARAMETER * parameters)


def _watch_step(model: nn.Module, inputs: Tensor, labels: Tensor) -> tuple[Operator, ...]:
    """What the second step runs: the first sets up what later ones keep. Changes the model."""
    model.train()
    _run_step(model, inputs, labels, _Watch())
    watch = _Watch()
    watch.follow_pools(model)
    _run_step(model, inputs, labels, watch)
    return tuple(_operator(key, count) for key, count in watch.counts.items())


def _run_step(model: nn.Module, inputs: Tensor, labels: Tensor, watch: _Watch) -> None:
    """One step as clients take it; the learning rate is 0, for the values do not matter."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    rows = torch.arange(len(inputs))
    with torch.random.fork_rng(devices=[]), watch:
        output = model(inputs.index_select(0, rows))
        loss = nn.functional.cross_entropy(output.float(), labels.index_select(0, rows))
        watch.is_backward = True
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            moved = [p for p in parameters if p.grad is not None]
            grads = [p.grad for p in moved if p.grad is not None]
            torch._foreach_add_(moved, grads, alpha=0.0)  # type: ignore[arg-type]
    for parameter in parameters:
        parameter.grad = None


@dataclass
class _Count:
    """Launches of one operator, and what they sum to."""

    launches: int = 0
    multiply_adds: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    quantized_elements: int = 0
    tensors: int = 0


def _operator(key: _Key, count: _Count) -> Operator:
    return Operator(
        *key,
        count.launches,
        count.multiply_adds,
        count.bytes_read,
        count.bytes_written,
        count.quantized_elements,
        count.tensors,
    )


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what torch dispatches while the mode is on."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.is_backward = False
        self.counts: dict[_Key, _Count] = {}
        self._is_fast_pool = False

    def follow_pools(self, model: nn.Module) -> None:
        """Knows our own pooling, which is torch's while somebody watches, from torch's."""

        def note(begins: bool, *_: object) -> None:
            self._is_fast_pool = begins

        for module in model.modules():
            if isinstance(module, MaxPool2d) and module.halves():
                module.register_forward_pre_hook(partial(note, True))
                module.register_forward_hook(partial(note, False))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        output = func(*args, **named)
        if func._overloadpacket is torch.ops.aten.detach:  # how autograd keeps a tensor
            return output
        kind = _kind(func)
        if kind is OperatorKind.POOLING and self._is_fast_pool:
            kind = OperatorKind.POINTWISE
        count = self.counts.setdefault(
            (str(func._overloadpacket), kind, self.is_backward), _Count()
        )
        taken, given = _tensors((args, named)), _tensors(output)
        count.launches += 1
        count.tensors += len(taken)
        if formula := flop_registry.get(func._overloadpacket):
            count.multiply_adds += formula(*args, **named, out_val=output) // 2
        if kind is not OperatorKind.VIEW:
            count.bytes_read += _bytes(taken)
            count.bytes_written += _bytes(given or _written(func, args))
        if kind in (OperatorKind.QUANTIZE_INPUT, OperatorKind.QUANTIZE_WEIGHTS):
            count.quantized_elements += sum(t.numel() for t in _tensors(args[0]))
        return output


def _kind(func: Any) -> OperatorKind:
    """What an operator's time goes with."""
    returned = func._schema.returns
    if returned and all(r.alias_info is not None and not r.alias_info.is_write for r in returned):
        return OperatorKind.VIEW
    name = func._schema.name
    if name == "fedhq::quantize_weights":
        return OperatorKind.QUANTIZE_WEIGHTS
    if name.startswith("fedhq::quantize"):
        return OperatorKind.QUANTIZE_INPUT
    if name.startswith("aten::_foreach"):
        return OperatorKind.UPDATE
    if "convolution" in name:
        return OperatorKind.CONVOLUTION
    if "max_pool" in name and "backward" not in name:
        return OperatorKind.POOLING
    return OperatorKind.MATMUL if func._overloadpacket in flop_registry else OperatorKind.POINTWISE


def _tensors(values: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _written(func: Any, args: Sequence[object]) -> list[Tensor]:
    """What an operator that returns nothing changes in place."""
    changed = (
        value
        for argument, value in zip(func._schema.arguments, args, strict=False)
        if argument.alias_info is not None and argument.alias_info.is_write
    )
    return _tensors(list(changed))
